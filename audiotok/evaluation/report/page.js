// Tables: sorting, filters, the worst recordings. The data come from the page itself.

const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const COLOURS = 8;

// An element. Strings become text, never markup.
function el(name, attributes, ...children) {
  return dress(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return dress(document.createElementNS(SVG, name), attributes, children);
}

function dress(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const nameOf = (subject) => (subject < 0 ? 'original' : data.subjects[subject].name);
const metricNamed = (name) => data.metrics.findIndex((metric) => metric.name === name);

// A header that sorts its table: the best first, then the other way. Empty cells stay below.
function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.dataset.better) return;
    const button = el('button', { type: 'button' });
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const now = head.getAttribute('aria-sort');
      const first = head.dataset.better === 'higher' ? 'descending' : 'ascending';
      const other = first === 'descending' ? 'ascending' : 'descending';
      const way = now === first ? other : first;
      heads.forEach((h) => h.hasAttribute('aria-sort') && h.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', way);
      const words = head.dataset.better === 'name';
      const keyed = [...body.rows].map((row) => {
        const value = row.cells[column].dataset.v;
        return { row, key: words ? value : value === '' ? null : Number(value) };
      });
      const sign = way === 'ascending' ? 1 : -1;
      keyed.sort((a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
        return sign * (words ? a.key.localeCompare(b.key, 'en', { numeric: true }) : a.key - b.key);
      });
      body.append(...keyed.map((entry) => entry.row));
    });
  });
}

function filterPairs() {
  const metric = byId('pairs-metric').value;
  const tied = byId('pairs-tied').checked;
  for (const row of byId('pairs-table').tBodies[0].rows) {
    row.hidden = (metric !== '' && row.dataset.metric !== metric)
      || (tied && !row.classList.contains('untold'));
  }
}

// One fact on the codebooks at a time; without a script all of them are there, each under its name.
function chooseFact() {
  for (const body of byId('matrix').tBodies) {
    body.hidden = body.dataset.fact !== byId('matrix-fact').value;
    body.rows[0].hidden = true;
  }
}

// Recordings without a score come first: a failure is worse than any number.
function drawWorst() {
  const subject = Number(byId('worst-subject').value);
  const metric = metricNamed(byId('worst-metric').value);
  const body = byId('worst-table').tBodies[0];
  body.replaceChildren();
  if (metric < 0 || !data.subjects[subject]) return;
  const { better, places } = data.metrics[metric];
  const count = Math.max(1, Number(byId('worst-count').value) || 10);
  const scores = data.scores[metric][subject];
  const errors = data.errors[metric][subject];
  const scored = scores.map((value, clip) => ({ value, clip })).filter((s) => s.value !== null);
  const key = ({ value }) => (value === '∞' ? Infinity : value === '-∞' ? -Infinity : value);
  const order = (a, b) => (a === b ? 0 : a - b); // two infinities have no difference
  scored.sort((a, b) => (better === 'higher' ? order(key(a), key(b)) : order(key(b), key(a))));
  const failed = Object.entries(errors).map(([clip, why]) => ({ clip: Number(clip), why }));
  for (const { value, clip, why } of [...failed, ...scored.slice(0, count)]) {
    const about = data.clips[clip];
    const player = data.embedded.indexOf(clip);
    body.append(el('tr', {},
      el('th', { scope: 'row' }, about.name,
        el('small', {}, [about.speaker, `${about.seconds.toFixed(1)} s`].filter(Boolean).join(', '))),
      why === undefined ? el('td', { class: 'number' }, typeof value === 'string' ? value : value.toFixed(places))
        : el('td', { class: 'number failed' }, `failed (${why})`),
      el('td', {}, about.text),
      el('td', {}, player < 0 ? '' : el('a', {
        href: `#player-${player}`, onclick: () => players[player].choose(subject),
      }, 'listen'))));
  }
}
