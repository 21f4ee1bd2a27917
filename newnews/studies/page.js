"use strict";
// Light or dark, tables that sort, and the walk through a news item. Texts go in as text, never as HTML.

const root = document.documentElement;
document.getElementById("theme").onclick = () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.style.colorScheme = (root.style.colorScheme || system) === "dark" ? "light" : "dark";
};

function sortBy(th) {
  const numbers = th.className === "number", i = th.cellIndex, body = th.closest("table").tBodies[0];
  const down = th.ariaSort ? th.ariaSort === "ascending" : numbers;       // numbers begin with the largest
  const key = row => {
    const text = row.cells[i].dataset.value ?? row.cells[i].textContent;
    return !numbers ? text : text === "" ? -Infinity : Number(text);
  };
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  });
  for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
  th.ariaSort = down ? "descending" : "ascending";
  body.append(...rows);
}
for (const button of document.querySelectorAll("th button")) button.onclick = () => sortBy(button.parentNode);

function make(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

const data = JSON.parse(document.getElementById("walk-data").textContent);
const news = document.getElementById("walk-news"), cell = document.getElementById("walk-cell");
const STATES = ["before", "before + news", "after", "after + news"];     // + news: it stands in the context

function conversation(row) {
  const paid = row.paid ? [...row.paid].map(x => x === "1") : [];
  const pieces = row.tokens
    ? row.tokens.map((text, i) => make("span", paid[i] ? "paid" : "", text.replaceAll("\n", "↵\n")))
    : row.messages.flatMap(([role, text]) => [`${role}: `, make("span", "", text), "\n"]);
  return make("p", "tokens", ...pieces);
}

function written(group, open) {
  const made = make("details", "", make("summary", "", `${group.cells.join(", ")}: ${group.rows.length} of `
    + `${group.count} conversations`), ...group.rows.map(conversation));
  made.open = open;
  return made;
}

function replies(format, states) {
  const line = (state, i) => {
    if (!state || !state[format]) return [];
    const [text, right, undecided, cut] = state[format];
    const kind = right ? "held" : undecided ? "unsure" : "not";
    const verdict = make("b", kind, right ? "✓ " : undecided ? "? " : "✗ ");
    verdict.title = right ? "right" : undecided ? "undecided" : "wrong";
    const said = make("td", "", verdict, text + (cut ? " … (cut)" : ""));
    return [make("tr", "", make("td", "", STATES[i]), said)];
  };
  return make("table", "replies", make("tbody", "", ...states.flatMap(line)));
}

function options(format, question, states) {
  const sums = states.map(state => state && state[format]);
  const floor = Math.max(-25, Math.min(-1, ...sums.flatMap(x => x ? x[0] : [])));
  const bar = (found, k) => {
    if (!found) return make("td", "", "–");
    const [all, pick] = found;
    const fill = make("i");
    fill.style.width = `${Math.max(0, 100 * (1 - all[k] / floor))}%`;
    const sum = all[k] > -0.05 ? "0" : all[k].toFixed(1);
    return make("td", k === pick ? "pick" : "", sum, make("span", "meter", fill));
  };
  const head = make("tr", "", make("th", "", "option"), ...STATES.map(name => make("th", "", name)));
  const lines = question.options.map((option, k) => make("tr", k === question.answer ? "is-right" : "",
    make("td", "", (k === question.answer ? "✓ " : "") + option), ...sums.map(all => bar(all, k))));
  return make("table", "options", make("thead", "", head), make("tbody", "", ...lines));
}

function question(q) {
  const states = [...q.answers[data.cells[cell.value].base], ...q.answers[cell.value]], parts = [];
  for (const [format, title] of Object.entries(data.formats)) {
    parts.push(make("h4", "", title));
    parts.push(["text", "letter"].includes(format) ? options(format, q, states) : replies(format, states));
  }
  const tags = [q.needs, q.rehearsed ? "rehearsed: not counted" : ""].filter(Boolean);
  const asked = make("p", "", make("b", "", q.ask), " ", ...tags.map(t => make("span", "tag", t)));
  return make("article", "question", asked, make("p", "small", `Right: ${q.options[q.answer]}`), ...parts);
}

function walk() {
  const item = data.news[news.value], mine = data.cells[cell.value].name;
  document.getElementById("walk-here").replaceChildren(
    make("h3", "", item.headline || item.id), make("p", "small", `${item.domain}: ${item.id}`),
    make("p", "statement", item.statement),
    make("h4", "", "What is trained on; the loss counts what is marked"),
    ...item.written.map(group => written(group, group.cells.includes(mine))),
    make("h4", "", `Answers before and after ${mine}`),
    make("div", "questions", ...item.questions.map(question)));
}
news.onchange = cell.onchange = walk;
walk();
