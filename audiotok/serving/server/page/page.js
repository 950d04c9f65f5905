// The page: a recording, its tokens, and what is decoded from so many of their codebooks.

import { Server } from './socket.js';
import { Monitor, Player, Track, read, record, wav } from './audio.js';
import { Spectrogram, TokenMap, codebookScale, hertzScale, timeAxis, waveform } from './draw.js';
import { Lag, valueAt } from './values.js';
import * as tok from './tok.js';

const $ = (id) => document.getElementById(id);
const SPAN = 4;  // seconds at least that the plots are wide
const BY = { similarity: 'similar entries have similar colours', code: 'a colour for each code; that two are close means nothing' };
let server, player, take = null, stopRecording = null, monitor = null, stale = true, said = 0;

function state(kind, text) { $('state').dataset.state = kind; $('state-text').textContent = text; }

function problem(text) { $('problem').textContent = text || ''; $('problem').hidden = !text; }

/** All that belongs to one recording; a file of tokens has no original, and its own codebooks. */
function fresh(sizes = server.hello.sizes, file = null) {
  return {
    original: new Track(), decoded: new Track(), codes: sizes.map(() => []), file,
    map: new TokenMap(sizes, server.colours.tables), summary: null, lag: new Lag(server.hello), ready: new Map(), books: 0, spectra: new Map(),
    get length() { return file ? file.samples : this.original.length; },
  };
}

/** The slider goes as far as there are codebooks. */
function range(most) {
  const asked = Number($('books').value) === Number($('books').max) ? most : $('books').value;
  $('books').max = most;
  $('books').value = asked;
  label();
}

function push(codes) {
  codes.forEach((row, k) => { for (const code of row) take.codes[k].push(code); });
  take.map.push(codes);
  stale = true;
}

// -- the connection ---------------------------------------------------------------------------

async function connect() {
  state('wait', 'connecting');
  const token = sessionStorage.getItem('token') || '';
  try {
    server = await Server.connect(token);
  } catch (error) {
    state('bad', 'not connected');
    $('token-form').hidden = false;
    problem(error.message);
    return;
  }
  $('token-form').hidden = true;
  problem('');
  state('ok', 'connected');
  const { hello } = server;
  server.closed = (why) => {
    state('bad', 'disconnected');
    if (stopRecording) { stopRecording(); stopped(); }
    if (!/nothing came/.test(why)) problem(why);
    enable();
  };
  player ||= new Player(hello.sample_rate, playing);
  $('books').max = hello.codebooks;
  $('books').value = hello.codebooks;
  $('f-codec').replaceChildren(hello.codec, small(hello.fingerprint));
  $('tokens-by').textContent = BY[server.colours.by];
  $('f-latency').textContent = `${Math.round(hello.latency * 1000)} ms`;
  label();
  enable();
}

async function connected() {
  if (server?.socket.readyState === WebSocket.OPEN) return true;
  await connect();
  return server?.socket.readyState === WebSocket.OPEN;
}

function small(text) {
  const made = document.createElement('small');
  made.textContent = text;
  return made;
}

// -- encoding ---------------------------------------------------------------------------------

/** Begins a recording; `rest` is what is done when the server has said all. */
function begin(live) {
  player.pause();
  playing();
  take = fresh();
  range(server.hello.codebooks);
  take.live = live;
  take.began = performance.now();
  const books = take.books = Number($('books').value);
  const mine = take;
  return new Promise((resolve) => {
    server.start('both', {
      codes: push,
      samples: (samples) => { mine.decoded.push(samples); monitor?.push(samples); stale = true; },
      draining: () => state('bad', 'the server is going away'),
      end: (summary) => {
        mine.summary = summary;
        mine.took = (performance.now() - mine.began) / 1000;
        resolve(mine);
      },
    }, { live });
    enable();
    if (books < server.hello.codebooks) server.say({ type: 'codebooks', codebooks: books });
    monitor = live && $('monitor').checked ? new Monitor(server.hello.sample_rate) : null;
  });
}

function ended(mine) {
  if (!mine.mixed) mine.ready.set(mine.books, mine.decoded.all());
  const asked = Number($('books').value);
  mine.done = true;
  enable();
  if (mine.ready.has(asked)) listen(); else decode(asked);
  stale = true;
}

async function toggle() {
  if (stopRecording) {
    stopRecording();
    return stopped();
  }
  problem('');
  if (!await connected()) return;
  $('record').disabled = true;
  try {
    let done;
    const stop = await record(server.hello.sample_rate, (samples) => {
      done ||= begin(true).then(ended);
      take.original.push(samples);
      if (server.socket.readyState === WebSocket.OPEN) server.audio(samples);
      let peak = 0;
      for (const x of samples) peak = Math.max(peak, Math.abs(x));
      $('level').value = Math.max(peak, $('level').value * 0.8);
      stale = true;
    });
    stopRecording = () => { stop(); if (done && server.socket.readyState === WebSocket.OPEN) server.end(); };
    $('record').classList.add('on');
    $('record-text').textContent = 'Stop';
  } catch (error) {
    problem(`no microphone: ${error.message}`);
  }
  enable();
}

function stopped() {
  stopRecording = null;
  monitor?.close();
  monitor = null;
  $('level').value = 0;
  $('record').classList.remove('on');
  $('record-text').textContent = 'Record';
  enable();
}

async function load(file) {
  if (!file || stopRecording) return;
  problem('');
  try {
    if (!await connected()) return;
    const bytes = new Uint8Array(await file.slice(0, 6).arrayBuffer());
    if (tok.isTok(bytes)) return await open(file);
    const samples = await read(file, server.hello.sample_rate);
    const done = begin(false);
    take.original.push(samples);
    await server.audioWhole(samples);
    server.end();
    ended(await done);
  } catch (error) {
    problem(error.message);
  }
}

/** A file of tokens, to be heard. */
async function open(file) {
  const { hello } = server;
  let found;
  try {
    found = tok.read(new Uint8Array(await file.arrayBuffer()));
  } catch (error) {
    throw new Error(`${file.name}: ${error.message}`);
  }
  const { header, codes } = found;
  const same = [hello.fingerprint, ...(hello.former_fingerprints ?? [])];
  if (header.codec !== hello.codec || !same.includes(header.fingerprint)) {
    throw new Error(`${file.name}: tokens of ${header.codec} (${header.fingerprint}); this server has ${hello.codec} (${hello.fingerprint})`);
  }
  if (!codes[0].length) throw new Error(`${file.name}: no tokens in it`);
  player.pause();
  take = fresh(header.sizes, found);
  push(codes);
  range(codes.length);
  choose('b');
  take.books = codes.length;
  take.done = true;
  enable();
  playing();
  await decode(Number($('books').value));
}

// -- hearing ----------------------------------------------------------------------------------

/** What so many codebooks sound like: asked of the server once. */
async function decode(books) {
  const mine = take;
  if (!mine?.done || mine.busy) return;
  if (!mine.ready.has(books)) {
    if (!await connected()) return;
    mine.busy = true;
    const track = new Track();
    await new Promise((resolve) => {
      server.start('decode', { samples: (samples) => track.push(samples), end: resolve }, { codebooks: books, live: false });
      server.tokens(mine.codes.slice(0, books));
      server.end(mine.length);
    });
    mine.ready.set(books, track.all().subarray(0, mine.length));
    mine.busy = false;
  }
  if (take !== mine) return;
  const asked = Number($('books').value);
  if (asked !== books) return decode(asked);
  mine.books = books;
  listen();
}

function choice() { return $('b').getAttribute('aria-pressed') === 'true' ? 'b' : 'a'; }

function heard() {
  if (!take) return new Float32Array(0);
  return choice() === 'a' ? take.original.all() : take.ready.get(take.books) || take.decoded.all();
}

function listen() {
  player.use(heard());
  const name = choice() === 'a' ? 'original.wav' : `decoded-${take.books}.wav`;
  offer('save', wav(heard(), server.hello.sample_rate), name);
  const { sample_rate } = server.hello, samples = take.length;
  const came = { samples, original_rate: sample_rate, original_samples: samples, channels: 1 };
  const file = tok.write(server.hello, take.codes.slice(0, take.books), { ...came, ...take.file?.header, ...take.file });
  offer('save-tokens', new Blob([file]), `tokens-${take.books}.tok`);
  stale = true;
}

/** A link that saves this. */
function offer(id, blob, name) {
  const link = $(id);
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.hidden = false;
}

function choose(which) {
  if (which === 'a' && take?.file) return;
  $('a').setAttribute('aria-pressed', which === 'a');
  $('b').setAttribute('aria-pressed', which === 'b');
  if (take?.done) listen();
  stale = true;
}

function play() {
  if (player.playing) player.pause(); else player.play();
  playing();
}

function playing() {
  $('play').classList.toggle('on', player.playing);
  $('play').setAttribute('aria-label', player.playing ? 'Pause' : 'Play');
}

// -- what is seen -----------------------------------------------------------------------------

function kbps(books) {
  const { sizes, sample_rate, frame_size } = server.hello;
  const bits = sizes.slice(0, books).reduce((sum, size) => sum + Math.log2(size), 0);
  return bits * sample_rate / frame_size / 1000;
}

function label() {
  const books = Number($('books').value);
  $('books-text').textContent = `${books} of ${$('books').max} · ${kbps(books).toFixed(2)} kbps`;
}

function enable() {
  const open = server?.socket.readyState === WebSocket.OPEN;
  const ready = Boolean(take?.done);
  $('record').disabled = false;
  $('file').disabled = Boolean(stopRecording);
  $('books').disabled = !server;
  for (const id of ['play', 'a', 'b']) $(id).disabled = !ready;
  $('a').disabled ||= Boolean(take?.file);
  $('hint').hidden = Boolean(take);
  $('plots').classList.toggle('filled', Boolean(take));
  if (!open && !server) $('record').disabled = true;
}

function facts() {
  const { sample_rate, frame_size } = server.hello;
  const seconds = take.length / sample_rate, rate = kbps(take.books);
  $('f-length').replaceChildren(`${seconds.toFixed(2)} s`, small(`${take.map.frames} frames of ${Math.round(frame_size / sample_rate * 1000)} ms`));
  $('f-rate').replaceChildren(`${rate.toFixed(2)} kbps`, small(`${Math.ceil(rate * seconds / 8 * 10) / 10} kB in all`));
  $('f-ratio').replaceChildren(`${Math.round(sample_rate * 16 / 1000 / rate)} times`, small('smaller'));
  if (!take.summary?.count) {
    $('f-answer').textContent = '–';
  } else if (take.live) {
    $('f-speed').textContent = 'server answers in';
    $('f-answer').replaceChildren(`${take.summary.p50_ms.toFixed(0)} ms`, small(`99 %: ${take.summary.p99_ms.toFixed(0)} ms`));
    if (take.lag.worst) $('f-answer').append(small(`at worst ${Math.round(take.lag.worst)} ms behind`));
  } else {
    $('f-speed').textContent = 'server, there and back';
    $('f-answer').replaceChildren(`${(seconds / take.took).toFixed(1)}x real time`, small(`${take.took.toFixed(1)} s`));
  }
}

/** Says that the server is behind, where it is. */
function lag(now) {
  const text = take.live && !take.done && take.original.length ? take.lag.at(now, take.original.length, take.decoded.length) : '';
  $('behind').hidden = !text;
  $('behind').textContent = text;
}

/** The value under the pointer. */
function hover(event) {
  const canvas = event.target;
  const box = canvas.getBoundingClientRect(), plots = $('plots').getBoundingClientRect();
  const text = take && canvas.matches?.('canvas') ? valueAt(canvas.id, take, server.hello, span(), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height) : '';
  $('tip').hidden = !text;
  if (!text) return;
  $('tip').textContent = text;
  const left = Math.min(event.clientX - plots.left + 12, plots.width - $('tip').offsetWidth);
  const top = event.clientY - plots.top - $('tip').offsetHeight - 10;
  $('tip').style.left = `${Math.max(0, left)}px`;
  $('tip').style.top = `${top}px`;
}

/** How many samples the plots are wide. */
function span() { return Math.max(SPAN * server.hello.sample_rate, take.length); }

function spectrum(samples, key) {
  if (!take.spectra.has(key)) take.spectra.set(key, new Spectrogram(server.hello.sample_rate / 100));
  const made = take.spectra.get(key);
  made.follow(samples);
  return made;
}

function draw(now) {
  requestAnimationFrame(draw);
  if (!server || !take) return;
  const { sample_rate, frame_size } = server.hello, wide = span();
  const at = player.time * sample_rate / wide;
  $('head').hidden = !take.done;
  $('head').style.left = `calc(var(--gutter) + ${at} * (100% - var(--gutter)))`;
  $('time').textContent = `${(take.done ? player.time : take.length / sample_rate).toFixed(1)} / ${(take.length / sample_rate).toFixed(1)} s`;
  if (now - said > 250) { said = now; lag(now); }
  if (!stale) return;
  stale = false;
  const decoded = take.ready.get(take.books) || take.decoded.all(), which = choice();
  const tracks = [
    { samples: take.original.all(), name: '--a', alpha: which === 'a' ? 1 : 0.55 },
    { samples: decoded, name: '--b', alpha: which === 'b' ? 0.85 : 0.3 },
  ];
  waveform($('wave'), which === 'a' ? tracks.reverse() : tracks, wide);
  take.map.draw($('tokens'), wide / frame_size, Number($('books').value));
  const [samples, key] = which === 'a' ? [take.original.all(), 'a'] : [decoded, take.done ? take.books : 'live'];
  spectrum(samples, key).draw($('spectrum'), wide);
  for (const plot of ['wave', 'tokens', 'spectrum']) timeAxis($(`${plot}-axis`), wide / sample_rate);
  codebookScale($('tokens-scale'), take.codes.length);
  hertzScale($('spectrum-scale'), sample_rate / 2);
  $('spectrum-text').textContent = `${which === 'a' ? 'original' : 'decoded'}, Hz`;
  $('tokens-text').textContent = `${take.map.frames} frames x ${take.codes.length} codebooks`;
  facts();
}

// -- what a person does -----------------------------------------------------------------------

$('record').onclick = toggle;
$('file').onchange = (event) => { load(event.target.files[0]); event.target.value = ''; };
$('play').onclick = play;
$('a').onclick = () => choose('a');
$('b').onclick = () => choose('b');
$('books').oninput = () => {
  label();
  stale = true;
  const books = Number($('books').value);
  if (take?.done) return decode(books);
  if (take && !take.done && server.socket.readyState === WebSocket.OPEN) {
    server.say({ type: 'codebooks', codebooks: books });
    take.mixed = true;
    take.books = books;
  }
};
$('plots').onpointermove = hover;
$('plots').onpointerleave = () => { $('tip').hidden = true; };
$('plots').onpointerdown = (event) => {
  hover(event);
  if (!take?.done) return;
  const box = $('wave').getBoundingClientRect();
  player.seek((event.clientX - box.left) / box.width * span() / server.hello.sample_rate);
};
$('token-form').onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', $('token').value);
  connect();
};
for (const name of ['dragover', 'dragleave', 'drop']) {
  addEventListener(name, (event) => {
    event.preventDefault();
    $('drop').classList.toggle('over', name === 'dragover');
    if (name === 'drop') load(event.dataTransfer.files[0]);
  });
}
addEventListener('keydown', (event) => {
  if (event.target.matches('input, button') || !take?.done) return;
  if (event.key === ' ') { event.preventDefault(); play(); }
  if (event.key === 'a' || event.key === 'b') choose(event.key);
});
addEventListener('resize', () => { stale = true; });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { stale = true; });
connect().then(() => requestAnimationFrame(draw));
