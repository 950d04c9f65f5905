// Blind tests: ABX, and a rating of all rows. Nothing on the screen names a row until the end.

const ANCHOR = 'low anchor (3.5 kHz low-pass)';

// mulberry32 (Tommy Ettinger, public domain): the same seed deals the same test again.
function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffled(items, random) {
  const found = [...items];
  for (let i = found.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [found[i], found[j]] = [found[j], found[i]];
  }
  return found;
}

// The chance of so many right answers or more by guessing.
function guessing(right, trials) {
  let term = 0.5 ** trials; // of no right answer
  let sum = 0;
  for (let k = 0; k <= trials; k += 1) {
    if (k >= right) sum += term;
    term *= (trials - k) / (k + 1);
  }
  return Math.min(1, sum);
}

// The low anchor of ITU-R BS.1534: no sound above 3.5 kHz; an 8th-order Butterworth low-pass.
async function lowPassed(buffer) {
  const offline = new OfflineAudioContext(buffer.numberOfChannels, buffer.length, buffer.sampleRate);
  let node = offline.createBufferSource();
  node.buffer = buffer;
  node.start();
  for (let k = 0; k < 4; k += 1) {
    const quality = 1 / (2 * Math.cos(Math.PI * (2 * k + 1) / 16));
    const filter = offline.createBiquadFilter();
    filter.type = 'lowpass';
    filter.frequency.value = 3500;
    filter.Q.value = 20 * Math.log10(quality); // decibels, for this type
    node.connect(filter);
    node = filter;
  }
  node.connect(offline.destination);
  return offline.startRendering();
}

const hasAll = (entry, subjects) => subjects.every((s) => entry.audio[entry.subjects.indexOf(s)]);
const inSeconds = (milliseconds) => Math.round(milliseconds / 100) / 10;

// What both kinds of trial have: versions by label, one transport, keys.
function listening(dialog, versions, labels) {
  const buttons = [];
  const transport = new Transport(() => {
    play.textContent = transport.started === null ? 'Play' : 'Pause';
    seek.value = transport.position;
    meter.value = transport.started === null ? 0 : transport.level();
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', i === transport.current));
  });
  const play = el('button', { type: 'button', class: 'play primary', onclick: () => toggle() }, 'Play');
  const seek = el('input', { type: 'range', min: 0, step: 0.01, value: 0, 'aria-label': 'Position',
    oninput: () => transport.seek(Number(seek.value)) });
  const meter = el('meter', { class: 'level', min: 0, max: 1, value: 0, 'aria-label': 'Level' });
  const loop = el('input', { type: 'checkbox', checked: true, onchange: () => transport.setLoop(loop.checked) });
  const toggle = () => (transport.started === null ? transport.play() : transport.pause());
  labels.forEach((label, i) => buttons.push(el('button', { type: 'button', onclick: () => transport.choose(i) },
    i < 9 ? el('kbd', {}, String(i + 1)) : null, label)));
  transport.loop = true;
  transport.load(versions.map((buffer, i) => [i, buffer]));
  seek.max = transport.duration;
  dialog.onkeydown = (event) => press(event, toggle, (i) => i < labels.length && transport.choose(i));
  return { transport, buttons, bar: [el('div', { class: 'transport' }, play, el('label', {}, loop, 'loop'), meter), seek] };
}

function scene(dialog, title, ...children) {
  dialog.replaceChildren(el('div', { class: 'inner' }, el('h2', { id: 'blind-title' }, title), children));
}

// Asks trial after trial; the answers so far count when somebody stops.
async function abx(dialog, { a, b, trials, random }) {
  const usable = entries.filter((entry) => hasAll(entry, [a, b]));
  const answers = [];
  for (let trial = 1; trial <= trials; trial += 1) {
    const entry = usable[Math.floor(random() * usable.length)];
    const pair = random() < 0.5 ? [a, b] : [b, a];
    const x = random() < 0.5 ? 0 : 1;
    const buffers = new Map(await decoded(entry));
    const versions = [buffers.get(pair[0]), buffers.get(pair[1]), buffers.get(pair[x])];
    const { transport, buttons, bar } = listening(dialog, versions, ['A', 'B', 'X']);
    const began = performance.now();
    const answer = await new Promise((resolve) => {
      scene(dialog, `Trial ${trial} of ${trials}`, el('p', { class: 'note' }, 'Is X the same as A or as B?'), bar,
        el('div', { class: 'big choices' }, buttons),
        el('div', { class: 'big' },
          el('button', { type: 'button', 'data-answer': 'A', onclick: () => resolve(0) }, 'X is A'),
          el('button', { type: 'button', 'data-answer': 'B', onclick: () => resolve(1) }, 'X is B')),
        el('button', { type: 'button', 'data-answer': 'stop', onclick: () => resolve(null) }, 'Stop here'));
    });
    transport.drop();
    if (answer === null) break;
    answers.push({ recording: data.clips[entry.clip].name, a: nameOf(pair[0]), b: nameOf(pair[1]), x: 'AB'[x],
      answer: 'AB'[answer], right: answer === x, seconds: inSeconds(performance.now() - began) });
  }
  const right = answers.filter((row) => row.right).length;
  return { trials: answers, compared: [nameOf(a), nameOf(b)], right, of: answers.length,
    p: guessing(right, answers.length), test: 'one-sided binomial against guessing' };
}

async function rating(dialog, { subjects, random }) {
  const usable = shuffled(entries.filter((entry) => hasAll(entry, [...subjects, original()])), random);
  const trials = [];
  for (const entry of usable) {
    const buffers = new Map(await decoded(entry));
    const reference = buffers.get(original());
    const stimuli = subjects.map((s) => ({ name: nameOf(s), buffer: buffers.get(s) }));
    stimuli.push({ name: 'hidden reference', buffer: reference }, { name: ANCHOR, buffer: await lowPassed(reference) });
    const order = shuffled(stimuli, random);
    const labels = ['Reference', ...order.map((_, i) => String.fromCharCode(65 + i))];
    const { transport, buttons, bar } = listening(dialog, [reference, ...order.map((s) => s.buffer)], labels);
    const began = performance.now();
    const sliders = order.map((_, i) => el('input', { type: 'range', min: 0, max: 100, value: 50,
      'aria-label': `Rating of ${labels[i + 1]}` }));
    const done = await new Promise((resolve) => {
      const next = el('button', { type: 'button', class: 'primary', 'data-answer': 'next', disabled: true,
        onclick: () => resolve(true) }, trials.length + 1 < usable.length ? 'Next' : 'Finish');
      const touched = new Set();
      const rows = sliders.map((slider, i) => {
        const said = el('output', {}, '–');
        slider.addEventListener('input', () => {
          said.textContent = slider.value;
          touched.add(i);
          next.disabled = touched.size < sliders.length;
        });
        return el('div', { class: 'rate' }, buttons[i + 1], slider, said);
      });
      scene(dialog, `Recording ${trials.length + 1} of ${usable.length}`,
        el('p', { class: 'note' }, 'Rate each against the reference, which is also hidden among them (100: the same). Move every slider to go on.'),
        bar, el('div', { class: 'big choices' }, buttons[0]),
        el('div', { class: 'scale' }, el('span'), el('div', {}, ['bad', 'poor', 'fair', 'good', 'excellent'].map((word) => el('span', {}, word)))),
        rows, el('div', { class: 'big' }, next,
          el('button', { type: 'button', 'data-answer': 'stop', onclick: () => resolve(false) }, 'Stop here')));
    });
    transport.drop();
    if (!done) break;
    trials.push({ recording: data.clips[entry.clip].name, seconds: inSeconds(performance.now() - began),
      ratings: order.map((stimulus, i) => ({ label: labels[i + 1], name: stimulus.name, rating: Number(sliders[i].value) })) });
  }
  const names = trials.length ? trials[0].ratings.map((row) => row.name).sort() : [];
  const means = names.map((name) => {
    const values = trials.flatMap((t) => t.ratings.filter((r) => r.name === name).map((r) => r.rating));
    return { name, mean: values.reduce((sum, value) => sum + value, 0) / values.length, n: values.length };
  });
  return { trials, means: means.sort((p, q) => q.mean - p.mean) };
}

const original = () => (entries.length ? entries[0].subjects.find((s) => nameOf(s) === 'original') : undefined);

function reveal(result) {
  const text = JSON.stringify(result, null, 1);
  const stamp = result.finished.replace(/\D/g, '').slice(0, 14);
  const name = `${result.kind}-${result.listener.replace(/[^\p{L}\p{N}]+/gu, '_')}-${stamp}.json`;
  const link = el('button', { type: 'button', class: 'primary', id: 'blind-save', onclick: () => {
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    el('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } }, 'Save results');
  const summary = result.kind === 'abx'
    ? el('p', {}, `${result.right} of ${result.of} right for ${result.compared.join(' and ')}; by guessing this or better: p = ${result.p.toFixed(4)}`)
    : el('div', { class: 'scroll' }, el('table', {},
      el('thead', {}, el('tr', {}, el('th', {}, 'row'), el('th', { class: 'number' }, 'mean rating'), el('th', { class: 'number' }, 'n'))),
      el('tbody', {}, result.means.map((row) => el('tr', {}, el('th', { scope: 'row' }, row.name),
        el('td', { class: 'number' }, row.mean.toFixed(1)), el('td', { class: 'number' }, String(row.n)))))));
  byId('blind-results').replaceChildren(el('h3', {}, `Results of ${result.listener}`), summary, link, el('pre', {}, text));
}

function startBlind() {
  const subjects = entries[0].subjects;
  const first = subjects.filter((s) => s >= 0 && data.subjects[s].competes);
  const options = () => subjects.map((s) => el('option', { value: s }, nameOf(s)));
  byId('abx-a').append(...options());
  byId('abx-b').append(...options());
  const left = original() === undefined ? first[0] : original();
  byId('abx-a').value = String(left);
  byId('abx-b').value = String(first.filter((s) => s !== left).pop() ?? subjects[subjects.length - 1]);
  byId('rating-subjects').append(...subjects.filter((s) => s !== original()).map((s) => el('label', {},
    // Rows to compare with, such as noise, are loud and tell nothing: the low anchor stands for them.
    el('input', { type: 'checkbox', value: s, checked: first.includes(s) }), nameOf(s))));
  const seed = byId('blind-seed');
  const deal = () => { [seed.value] = crypto.getRandomValues(new Uint32Array(1)); };
  const kind = byId('blind-kind');
  const show = () => document.querySelectorAll('#blind-form [data-for]').forEach((node) => {
    node.hidden = node.dataset.for !== kind.value;
  });
  kind.addEventListener('change', show);
  kind.querySelector('[value=rating]').disabled = original() === undefined;
  deal();
  show();
  const dialog = byId('blind-dialog');
  dialog.addEventListener('cancel', (event) => event.preventDefault()); // Escape would lose the answers
  byId('blind-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const a = Number(byId('abx-a').value), b = Number(byId('abx-b').value);
    const rated = [...byId('rating-subjects').querySelectorAll(':checked')].map((box) => Number(box.value));
    const needed = kind.value === 'abx' ? [a, b] : [...rated, original()];
    const problem = kind.value === 'abx' && a === b ? 'Choose two different rows.'
      : kind.value === 'rating' && !rated.length ? 'Choose rows to rate.'
        : entries.some((entry) => hasAll(entry, needed)) ? '' : 'No recording has the audio of all these rows.';
    byId('blind-results').replaceChildren(problem);
    if (problem) return;
    if (playing) playing.pause();
    const random = chance(Number(seed.value));
    const head = { version: 1, kind: kind.value, listener: byId('blind-listener').value, seed: Number(seed.value),
      bench: { title: data.title, about: data.about }, started: new Date().toISOString() };
    dialog.showModal();
    const work = kind.value === 'abx' ? abx(dialog, { a, b, trials: Number(byId('abx-trials').value), random })
      : rating(dialog, { subjects: rated, random });
    const outcome = await work;
    dialog.close();
    dialog.replaceChildren();
    reveal({ ...head, finished: new Date().toISOString(), ...outcome });
    deal();
  });
}
