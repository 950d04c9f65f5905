// Listening: several versions of a recording in step, one of them heard.

let context = null;
let playing = null; // one transport at a time

function audioContext() {
  context = context || new AudioContext();
  return context;
}

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

// All versions play at once, each through a gain of its own: switching moves gains, not the place.
class Transport {
  constructor(onchange) {
    this.onchange = onchange;
    this.buffers = new Map();
    this.gains = new Map();
    this.sources = [];
    this.current = null;
    this.loop = false;
    this.offset = 0;
    this.started = null; // the context's time at which it began, while it plays
  }

  // Versions: [key, AudioBuffer] each.
  load(versions) {
    const sound = audioContext();
    this.buffers = new Map(versions);
    this.analyser = sound.createAnalyser();
    this.analyser.fftSize = 1024;
    this.analyser.connect(sound.destination);
    for (const key of this.buffers.keys()) {
      const gain = sound.createGain();
      gain.gain.value = 0;
      gain.connect(this.analyser);
      this.gains.set(key, gain);
    }
    this.duration = Math.min(...[...this.buffers.values()].map((buffer) => buffer.duration));
    this.choose(this.buffers.has(this.current) ? this.current : this.buffers.keys().next().value);
  }

  get position() {
    if (this.started === null) return this.offset;
    const at = this.offset + Math.max(0, context.currentTime - this.started);
    return this.loop ? at % this.duration : Math.min(at, this.duration);
  }

  choose(key) {
    this.current = key;
    for (const [other, gain] of this.gains) { // 8 ms: no click, and no gap to hear
      gain.gain.cancelScheduledValues(context.currentTime);
      gain.gain.setTargetAtTime(other === key ? 1 : 0, context.currentTime, 0.008);
    }
    this.onchange();
  }

  async play() {
    if (playing && playing !== this) playing.pause();
    playing = this;
    await context.resume();
    this.halt();
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    this.started = context.currentTime + 0.02;
    for (const [key, buffer] of this.buffers) {
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.loop = this.loop;
      source.loopEnd = this.duration;
      source.connect(this.gains.get(key));
      source.start(this.started, this.offset);
      this.sources.push(source);
    }
    this.sources[0].onended = () => {
      this.halt();
      this.offset = 0;
      this.onchange();
    };
    this.onchange();
    this.tick();
  }

  halt() {
    for (const source of this.sources) {
      source.onended = null;
      source.stop();
      source.disconnect();
    }
    this.sources = [];
    this.started = null;
  }

  pause() {
    this.offset = this.position;
    this.halt();
    this.onchange();
  }

  seek(seconds) {
    const on = this.started !== null;
    this.halt();
    this.offset = Math.max(0, Math.min(seconds, this.duration - 0.02));
    if (on) this.play(); else this.onchange();
  }

  setLoop(loop) {
    const on = this.started !== null;
    const at = this.position;
    this.loop = loop;
    if (on) this.seek(at);
  }

  // The peak of what is heard now.
  level() {
    const wave = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(wave);
    return wave.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
  }

  tick() {
    if (this.started === null) return;
    this.onchange();
    requestAnimationFrame(() => this.tick());
  }

  drop() {
    this.halt();
    if (this.analyser) this.analyser.disconnect();
    if (playing === this) playing = null;
  }
}

const entries = data.embedded.map((_, i) => JSON.parse(byId(`clip-${i}`).textContent));

// The versions of a recording that could be embedded: [subject, AudioBuffer].
function decoded(entry) {
  entry.decoded = entry.decoded || Promise.all(entry.audio.map(async (text, i) => (
    text ? [entry.subjects[i], await audioContext().decodeAudioData(bytesOf(text))] : null
  ))).then((all) => all.filter(Boolean));
  return entry.decoded;
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, '0')}`;
const players = [];
let active = null;

class Player {
  constructor(entry, number) {
    this.entry = entry;
    const about = data.clips[entry.clip];
    const audible = entry.subjects.filter((_, i) => entry.audio[i]);
    this.waves = entry.waves.map((text) => (text ? new Uint8Array(bytesOf(text)) : null));
    // One scale for all versions: that of the loudest.
    this.loudest = Math.max(1, ...this.waves.filter(Boolean).flatMap((wave) => [...wave].map((byte) => Math.abs(byte - 128))));
    this.transport = new Transport(() => this.draw());
    this.transport.current = audible.includes(data.best) ? data.best : audible[0];
    this.ready = null;
    this.play = el('button', { type: 'button', class: 'play primary', onclick: () => this.toggle() }, 'Play');
    this.time = el('span', { class: 'time' }, `${clock(0)} / ${clock(entry.seconds)}`);
    this.seek = el('input', { type: 'range', min: 0, max: entry.seconds, step: 0.01, value: 0,
      'aria-label': 'Position', oninput: () => this.move(Number(this.seek.value)) });
    this.meter = el('meter', { class: 'level', min: 0, max: 1, value: 0, 'aria-label': 'Level' });
    this.loop = el('input', { type: 'checkbox', onchange: () => this.transport.setLoop(this.loop.checked) });
    this.buttons = entry.subjects.map((subject, i) => el('button', { type: 'button', 'data-subject': nameOf(subject),
      disabled: !entry.audio[i], title: entry.missing[i], onclick: () => this.choose(subject) },
    el('kbd', {}, i < 9 ? String(i + 1) : ''), nameOf(subject)));
    this.canvas = el('canvas', { width: 1200, height: 124, role: 'img' });
    this.heads = [0, 1, 2, 3].map(() => el('div', { class: 'head' }));
    this.wave = el('div', { class: 'wave', onclick: (event) => {
      const box = this.wave.getBoundingClientRect();
      this.move((event.clientX - box.left) / box.width * entry.seconds);
    } }, this.canvas, this.heads[0]);
    this.images = ['original', 'decoded', 'difference'].map((alt) => el('img', { alt }));
    this.captions = this.images.map(() => el('figcaption'));
    this.box = el('article', { class: 'player', id: `player-${number}`, onpointerdown: () => this.activate(),
      onfocusin: () => this.activate() },
    el('h3', {}, about.name),
    el('p', { class: 'said' }, [about.speaker, about.text].filter(Boolean).join(': '),
      entry.cut ? ` (the first ${entry.seconds.toFixed(0)} s of ${about.seconds.toFixed(1)})` : ''),
    el('div', { class: 'choices', role: 'group', 'aria-label': 'Version heard' }, this.buttons),
    el('div', { class: 'transport' }, this.play, this.time, el('label', {}, this.loop, 'loop'), this.meter),
    this.wave, this.seek,
    entry.original || entry.spectra.some(Boolean) ? el('div', { class: 'spectra' }, this.images.map((image, i) => (
      el('figure', {}, el('div', { class: 'frame' }, image, this.heads[i + 1]), this.captions[i])))) : null);
    this.picture();
  }

  activate() {
    if (active) active.box.classList.remove('active');
    active = this;
    this.box.classList.add('active');
  }

  prepare() {
    this.ready = this.ready || decoded(this.entry).then((versions) => this.transport.load(versions));
    return this.ready;
  }

  async toggle() {
    this.activate();
    await this.prepare();
    if (this.transport.started === null) await this.transport.play(); else this.transport.pause();
  }

  async move(seconds) {
    await this.prepare();
    this.transport.seek(seconds);
  }

  async choose(subject) {
    const i = this.entry.subjects.indexOf(subject);
    if (!this.entry.audio[i]) return;
    this.activate();
    this.transport.current = subject;
    this.picture();
    this.trace();
    await this.prepare();
    this.transport.choose(subject);
  }

  picture() {
    const { entry, transport } = this;
    const i = entry.subjects.indexOf(transport.current);
    // Beside an original that is heard, a codec is seen.
    const codec = entry.subjects.findIndex((s, k) => entry.spectra[k] && s >= 0 && data.subjects[s].competes);
    const pictures = entry.spectra[i] || entry.spectra[codec] || entry.spectra.find(Boolean) || [null, null];
    const name = nameOf(entry.subjects[entry.spectra.indexOf(pictures)] ?? -1);
    [entry.original, pictures[0], pictures[1]].forEach((source, k) => {
      this.images[k].hidden = !source;
      if (source) this.images[k].src = source;
    });
    this.captions[0].textContent = entry.original ? 'original' : 'no original was kept';
    this.captions[1].textContent = name;
    this.captions[2].textContent = pictures[1] ? `${name} − original: orange added, blue lost (±30 dB)` : '';
    this.buttons.forEach((button, k) => button.setAttribute('aria-pressed', entry.subjects[k] === transport.current));
  }

  draw() {
    const { transport } = this;
    const at = transport.position;
    this.play.textContent = transport.started === null ? 'Play' : 'Pause';
    this.time.textContent = `${clock(at)} / ${clock(transport.duration)}`;
    this.seek.max = transport.duration;
    this.seek.value = at;
    this.meter.value = transport.started === null ? 0 : transport.level();
    this.heads.forEach((head) => { head.style.left = `${100 * at / transport.duration}%`; });
  }

  // The waveform of the version chosen, over the original's in grey.
  trace() {
    const { entry, canvas } = this;
    const at = entry.subjects.indexOf(this.transport.current);
    const original = entry.subjects.findIndex((subject) => nameOf(subject) === 'original');
    const style = getComputedStyle(this.box);
    canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    if (original >= 0 && original !== at) this.shape(this.waves[original], style.getPropertyValue('--muted'), 0.3);
    if (at >= 0) this.shape(this.waves[at], style.getPropertyValue('--c0'), 1);
    canvas.setAttribute('aria-label', at < 0 ? 'Waveform' : `Waveform of ${nameOf(this.transport.current)}`);
  }

  shape(wave, fill, opacity) {
    if (!wave) return;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext('2d');
    pen.fillStyle = fill;
    pen.globalAlpha = opacity;
    const step = width / (wave.length / 2);
    const y = (byte) => height / 2 * (1 - (byte - 128) / this.loudest);
    for (let i = 0; i < wave.length; i += 2) {
      const top = y(wave[i + 1]);
      pen.fillRect(i / 2 * step, top, Math.max(1, step - 0.5), Math.max(1, y(wave[i]) - top));
    }
  }
}

// What a key does to the thing listened to; true if it did something.
function press(event, toggle, choose) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { tagName, type } = event.target;
  if (tagName === 'SELECT' || (tagName === 'INPUT' && type !== 'range')) return;
  if (event.key === ' ' && !['BUTTON', 'SUMMARY', 'A'].includes(tagName)) toggle();
  else if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
  else return;
  event.preventDefault();
}
