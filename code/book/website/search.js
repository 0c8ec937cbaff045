// The search page: finds the best of the ENTRIES (search.py) with MiniSearch, and quotes them.
const SHOWN = 20, LENGTH = 240;
const COMMON = new Set(
  `a an and are as at be by can do does for from how i if in into is it its my of on or should so than that the their then
  there these they this to use was what when which why will with`.split(/\s+/));
// Numbers, Chinese, other words.
const WORDS = /(\d+\.\d+|\p{Script=Han}+|(?:(?!\p{Script=Han})[\p{L}\p{N}_])+)/gu;

// The words of a text. Chinese has no spaces: two neighbours are a word.
function split(text) {
  return (text.toLowerCase().match(WORDS) ?? []).flatMap((word) =>
    /\p{Script=Han}{2}/u.test(word) ? [...word].slice(1).map((sign, before) => word[before] + sign) : word);
}

const FIELDS = ["title", "names", "page", "text"];
const KINDS = { chapter: 1, term: 1, section: 0.8, function: 0.4 };
const index = new MiniSearch({
  idField: "address",
  fields: FIELDS,
  storeFields: [...FIELDS, "kind"],
  // Who looks for kl_divergence means all of it.
  tokenize: (text) => split(text).flatMap((word) => (word.includes("_") ? [word, ...word.split("_")] : word)),
  processTerm: (word) => !COMMON.has(word) && word,
  searchOptions: {
    tokenize: split,
    boost: { title: 2, names: 2 },
    boostDocument: (address, word, { kind }) => KINDS[kind],
    prefix: (word) => word.length > 2,
  },
});

// The entries that have words of a query, the best first. A word that none has may be misspelt.
function find(query) {
  if (!index.documentCount) index.addAll(ENTRIES);
  return index.search(query, { fuzzy: (word) => !index.search(word).length && 0.2 });
}

// The piece of a text in which most of the words meet that were looked for.
function quote(text, sought) {
  const hits = [...text.matchAll(WORDS)].filter(([word]) => sought(word));
  const meeting = (hit) => hits.filter(({ index }) => index >= hit.index && index < hit.index + LENGTH / 2);
  const wealth = (hit) => new Set(meeting(hit).map(([word]) => word.toLowerCase())).size;
  const best = hits.reduce((one, other) => (wealth(other) > wealth(one) ? other : one), hits[0]);
  const start = best ? text.lastIndexOf(" ", Math.max(best.index - LENGTH / 4, 0)) + 1 : 0;
  const end = `${text} `.indexOf(" ", Math.min(start + LENGTH, text.length));
  return (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
}

// What is shown of an entry; a name only if nothing else says why it was found.
function shown({ id, title, page, names, text, terms }) {
  const sought = (words) => split(words).some((word) => terms.includes(word));
  const excerpt = quote(text, sought);
  const name = [title, page, excerpt].some(sought) ? "" : names.find(sought);
  return { address: id, title, place: name ? `${page} · ${name}` : page, excerpt: excerpt.split(WORDS), sought };
}

function item(result) {
  const { address, title, place, excerpt, sought } = shown(result);
  const part = document.getElementById("found-item").content.cloneNode(true);
  const [link, page, quotation] = part.querySelectorAll("a, p");
  link.href = address;
  link.textContent = title;
  page.textContent = place;
  for (const words of excerpt) {
    const piece = document.createElement(sought(words) ? "mark" : "span");
    piece.textContent = words;
    quotation.append(piece);
  }
  return part;
}

function show(query) {
  document.querySelectorAll("[name=q]").forEach((field) => { field.value = query; });
  const found = find(query).slice(0, SHOWN);
  const status = document.querySelector("[role=status]");
  const sentence = status.dataset[found.length ? "found" : "none"];
  status.textContent = sentence.replace("{number}", found.length).replace("{query}", () => query);
  document.getElementById("found").append(...found.map(item));
}

const query = new URLSearchParams(location.search).get("q")?.trim();
if (query) show(query);
