"""DPO with TRL's `DPOTrainer`: on two data sets of this course, or on your model and your pairs.

    python3 -m venv /somewhere/trl
    /somewhere/trl/bin/python -m pip install -r code/examples/requirements.txt
    /somewhere/trl/bin/python code/examples/dpo_with_trl.py

`--dataset football`, the default: a model of two layers learns to name three teams with
probabilities (0.5, 0.3, 0.2); then TRL runs DPO on twenty comparisons, and the result is compared
with the exact optimum.

`--dataset forest`: a model of two layers learns to write the sentences of the course's corpus;
then TRL runs DPO on pairs of its own sentences. They are printed before and after.

`--model NAME_OR_FOLDER --dataset FILE --save FOLDER`: your pretrained model and your pairs, a file
of JSON lines with "prompt", "chosen" and "rejected". Each is a text (an answer follows its prompt
directly: a space between them begins the answer) or, for a chat model, a list of messages. For
this, copy this one file: only the data sets of the course need the course.

`--adapter` trains a LoRA adapter in place of the whole model. On several devices nothing changes
but the launcher: `accelerate launch code/examples/dpo_with_trl.py ...`. Nothing is downloaded,
unless `--model` is a name of the Hugging Face hub.
"""

import argparse
import copy
import csv
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL would report that it is used

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import DPOConfig, DPOTrainer

DEFAULTS = {
    "football": {"beta": 0.5, "learning_rate": 3e-3, "batch": 20, "steps": 200},
    "forest": {"beta": 0.5, "learning_rate": 1e-3, "batch": 128, "steps": -1},
    # As in TRL's own script, trl/scripts/dpo.py.
    "your model": {"beta": 0.1, "learning_rate": 5e-7, "batch": 16, "steps": -1},
    "your adapter": {"beta": 0.1, "learning_rate": 5e-6, "batch": 16, "steps": -1},
}
FIELDS = ["prompt", "chosen", "rejected"]
LOGGED = ["step", "loss", "rewards/chosen", "rewards/rejected", "rewards/margins"]
LOGGED += ["rewards/accuracies", "logps/chosen", "logps/rejected", "grad_norm"]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", default="football", help="football, forest, or a file of pairs"
    )
    parser.add_argument("--model", help="your model, no adapter: a folder, or a name of the hub")
    parser.add_argument("--save", help="a new folder, for your trained model or its adapter")
    parser.add_argument("--adapter", action="store_true", help="train a LoRA adapter only")
    parser.add_argument("--beta", type=float, help="tightness of the leash")
    parser.add_argument("--nll", type=float, default=0, help="weight of the likelihood term (0)")
    parser.add_argument("--learning-rate", type=float, help="of the first step; it then falls to 0")
    parser.add_argument("--batch", type=int, help="pairs in a step, on all devices together")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a step, to save memory")
    parser.add_argument("--steps", type=int, help="by default once through the pairs; football 200")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens of prompt and answer")
    parser.add_argument("--seed", type=int, default=0, help="of first weights, order and samples")
    parser.add_argument("--log", help="a CSV file for what TRL logs")
    options = parser.parse_args(arguments)
    options.own = options.dataset not in ("football", "forest")
    if options.own and not Path(options.dataset).is_file():
        parser.error(f"--dataset {options.dataset}: expected football, forest or a file")
    if not options.own == bool(options.model) == bool(options.save):
        parser.error(
            "--model and --save belong to a file of your own pairs, and all three together"
        )
    if options.model and Path(options.model, "adapter_config.json").exists():
        parser.error(f"--model {options.model} is an adapter: merge it into its model first")
    if options.save and Path(options.save).exists():
        parser.error(f"--save {options.save} exists already")
    kind = options.dataset
    if options.own:
        kind = "your adapter" if options.adapter else "your model"
    for name, value in DEFAULTS[kind].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def text_of(field):
    """The words of a text, or of a list of messages."""
    messages = [{"content": field}] if isinstance(field, str) else field
    return " ".join(message["content"] for message in messages).strip()


def read_pairs(path):
    """The pairs of a file of JSON lines, all checked."""
    rows = []
    lines = Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        here = f"{path}, line {number}"
        try:
            row = json.loads(line)
            texts = {name: text_of(row[name]) for name in FIELDS if name in row}
        except (ValueError, TypeError, KeyError) as error:
            sys.exit(f"{here}: found {line[:40]!r}, expected a pair in JSON ({error!r})")
        for name in FIELDS:
            if not texts.get(name):
                sys.exit(f"{here}: {name!r} is {'empty' if name in texts else 'missing'}")
        if isinstance(row["prompt"], str) and row["prompt"].endswith(" "):
            sys.exit(f"{here}: 'prompt' ends in a space, which belongs to the answers")
        if texts["chosen"] == texts["rejected"]:
            sys.exit(f"{here}: 'chosen' and 'rejected' are the same")
        rows.append({name: row[name] for name in FIELDS})
    return Dataset.from_list(rows)


class Own:
    """Your pairs and your pretrained model."""

    def __init__(self, options):
        self.rows = read_pairs(options.dataset)
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        # Most checkpoints are in bfloat16: its three digits would swallow steps as small as ours.
        self.model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
        prompts = self.rows["prompt"][:20]
        self.prompts = [text for k, text in enumerate(prompts) if text not in prompts[:k]][:3]
        self.before = self.write(self.model, options.seed)

    def write(self, model, seed):
        return [write(model, self.tokenizer, prompt, seed)[0] for prompt in self.prompts]

    def report(self, trained, records, options):
        for prompt, *answers in zip(self.prompts, self.before, self.write(trained, options.seed)):
            print("\nprompt: {}\nbefore: {}\nafter:  {}".format(text_of(prompt), *answers))
        return True


@torch.no_grad()
def write(model, tokenizer, prompt, seed, n=1, most=64):
    """Answers drawn from the model as it is, whatever its own settings for sampling are."""
    if isinstance(prompt, str):
        batch = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    else:
        chat = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
        batch = tokenizer.apply_chat_template(prompt, **chat)
    torch.manual_seed(seed)
    tokens = model.eval().generate(
        **batch.to(model.device),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        repetition_penalty=1.0,
        num_return_sequences=n,
        max_new_tokens=most,
        pad_token_id=tokenizer.eos_token_id,
    )
    answers = tokens[:, batch["input_ids"].shape[1] :]
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


def make_trainer(world, options, folder):
    """TRL's trainer for the model and the pairs."""
    cuda = torch.cuda.is_available()
    args = DPOConfig(
        output_dir=folder,
        beta=options.beta,
        # The second loss is the negative log-likelihood of the chosen answers, a mean over tokens.
        loss_type=["sigmoid", "sft"] if options.nll else ["sigmoid"],
        loss_weights=[1.0, options.nll] if options.nll else [1.0],
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        num_train_epochs=1,
        max_steps=options.steps,
        gradient_accumulation_steps=options.accumulate,
        max_length=options.max_length,  # a longer answer loses its end
        use_cpu=not (options.own or cuda),
        # For large models. It would round the log-probabilities of a small one to three digits.
        bf16=options.own and cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        activation_checkpointing=options.own,  # saves memory, costs time
        dataloader_pin_memory=cuda,
        ddp_find_unused_parameters=False,
        logging_steps=1,  # otherwise TRL logs means over the steps since the last record
        save_strategy="no",
        report_to="none",
        disable_tqdm=not options.own,
        seed=options.seed,
    )
    args.per_device_train_batch_size, rest = divmod(
        options.batch, args.world_size * options.accumulate
    )
    if rest or args.per_device_train_batch_size < 1:
        parts = f"processes ({args.world_size}) x --accumulate ({options.accumulate})"
        sys.exit(f"--batch is {options.batch}, expected a multiple of {parts}")
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    lines = range(1, len(world.rows) + 1)
    trainer = DPOTrainer(
        model=world.model,
        # With an adapter, the reference is the model without it. Without one and without
        # `ref_model`, TRL would load the checkpoint from which the model came.
        ref_model=None if options.adapter else copy.deepcopy(world.model),
        peft_config=adapter if options.adapter else None,
        args=args,
        train_dataset=world.rows.add_column("line", list(lines)),
        processing_class=world.tokenizer,
    )
    # TRL leaves out, without a word, a pair whose prompt fills the limit.
    lost = set(lines) - set(trainer.train_dataset["line"])
    if lost:
        found = f"the prompt has --max-length {options.max_length} tokens or more"
        sys.exit(f"{options.dataset}, line {min(lost)}: {found}: its answers would have no token")
    tokens = [
        len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        for row in trainer.train_dataset
    ]
    cut = sum(n > options.max_length for n in tokens)
    if cut and trainer.accelerator.is_main_process:
        print(f"{cut} of {len(tokens)} pairs are longer than --max-length: an answer loses its end")
    trainer.remove_callback(PrinterCallback)
    return trainer


def print_log(records):
    """Some of the records, closer together at the start."""
    names = LOGGED[1:-1]
    print("step " + "".join(f"{name.removeprefix('rewards/'):>15}" for name in names))
    for k in np.unique(np.geomspace(1, len(records), 8).astype(int)) - 1:
        print(f"{records[k]['step']:<5}" + "".join(f"{records[k][name]:>15.4f}" for name in names))


def write_log(path, records):
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LOGGED)
        writer.writerows([round(record[name], 6) for name in LOGGED] for record in records)


def main(arguments=None):
    options = parse(arguments)
    disable_progress_bars()
    # TRL 1.16 still uses names that transformers 5.24 has replaced.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
    if options.own:
        world = Own(options)
    else:
        import course

        world = course.WORLDS[options.dataset](options, write)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(world, options, folder)
        trainer.train()
    records = [record for record in trainer.state.log_history if "loss" in record]
    good, first = True, trainer.accelerator.is_main_process
    if options.log and first:
        write_log(options.log, records)
    if options.save:
        trainer.save_model(options.save)
    if first:
        print_log(records)
        good = world.report(trainer.accelerator.unwrap_model(trainer.model), records, options)
    trainer.accelerator.end_training()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
