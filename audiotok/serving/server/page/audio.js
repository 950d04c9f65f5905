// Samples in and out: the microphone, files, resampling, playing, WAV.

/** A growing Float32Array. */
export class Track {
  constructor() { this.data = new Float32Array(1 << 16); this.length = 0; }

  push(piece) {
    if (this.length + piece.length > this.data.length) {
      const bigger = new Float32Array(2 * (this.length + piece.length));
      bigger.set(this.data.subarray(0, this.length));
      this.data = bigger;
    }
    this.data.set(piece, this.length);
    this.length += piece.length;
  }

  all() { return this.data.subarray(0, this.length); }
}

/** Windowed-sinc resampling piece by piece; the same samples as whole. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.cut = Math.min(1, to / from) * 0.94;
    this.reach = Math.ceil(24 / this.cut);
    this.held = new Float32Array(this.reach);  // silence before the beginning
    this.first = -this.reach;                  // which input sample held[0] is
    this.made = 0;
    this.same = from === to;
  }

  push(piece) {
    if (this.same) return piece;
    const all = new Float32Array(this.held.length + piece.length);
    all.set(this.held); all.set(piece, this.held.length);
    const end = this.first + all.length, out = [];
    for (;; this.made++) {
      const at = this.made * this.step, middle = Math.floor(at);
      if (middle + this.reach >= end) break;
      let sum = 0;
      for (let i = middle - this.reach + 1; i <= middle + this.reach; i++) {
        const x = i - at, angle = Math.PI * x * this.cut;
        const sinc = x === 0 ? this.cut : Math.sin(angle) / (Math.PI * x);
        sum += all[i - this.first] * sinc * (0.5 + 0.5 * Math.cos(Math.PI * x / (this.reach + 1)));
      }
      out.push(sum);
    }
    const keep = Math.floor(this.made * this.step) - this.reach + 1 - this.first;
    this.held = all.slice(Math.max(0, keep));
    this.first += Math.max(0, keep);
    return Float32Array.from(out);
  }

  finish() { return this.same ? new Float32Array(0) : this.push(new Float32Array(this.reach + 1)); }
}

/** Calls `piece(samples)` with what the microphone gives, at `rate`; resolves to a stop function. */
export async function record(rate, piece) {
  if (!navigator.mediaDevices) throw new Error('a browser gives microphones to https and localhost only');
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule('worklet.js');
  await context.resume();
  const resampler = new Resampler(context.sampleRate, rate);
  const tap = new AudioWorkletNode(context, 'tap', { numberOfOutputs: 0 });
  tap.port.onmessage = (event) => {
    const samples = resampler.push(event.data);
    if (samples.length) piece(samples);
  };
  context.createMediaStreamSource(stream).connect(tap);
  return () => {
    tap.port.onmessage = null;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    const rest = resampler.finish();
    if (rest.length) piece(rest);
  };
}

/** The samples of a file, mixed down, at `rate`. */
export async function read(file, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  let decoded;
  try {
    decoded = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name}: not audio that this browser reads`);
  }
  const mixed = new Float32Array(decoded.length);
  for (let c = 0; c < decoded.numberOfChannels; c++) {
    const channel = decoded.getChannelData(c);
    for (let i = 0; i < mixed.length; i++) mixed[i] += channel[i] / decoded.numberOfChannels;
  }
  if (!mixed.length) throw new Error(`${file.name}: no audio in it`);
  return mixed;
}

/** Plays one of several tracks of one length; switching keeps the place. */
export class Player {
  constructor(rate, ended) {
    this.rate = rate; this.ended = ended; this.at = 0; this.track = null; this.node = null;
  }

  get playing() { return this.node !== null; }

  get time() {
    return this.playing ? Math.min(this.seconds, this.context.currentTime - this.begun) : this.at;
  }

  get seconds() { return this.track ? this.track.length / this.rate : 0; }

  /** Samples to play from here on. */
  use(track) {
    const was = this.playing, time = this.time;
    this.pause();
    this.track = track; this.at = Math.min(time, this.seconds);
    if (was && track.length) this.play();
  }

  play() {
    if (!this.track?.length) return;
    this.context ||= new AudioContext();
    this.context.resume();
    if (this.at >= this.seconds - 0.01) this.at = 0;
    const buffer = this.context.createBuffer(1, this.track.length, this.rate);
    buffer.copyToChannel(this.track, 0);
    const node = this.node = this.context.createBufferSource();
    node.buffer = buffer;
    this.analyser ||= this.context.createAnalyser();
    node.connect(this.analyser); this.analyser.connect(this.context.destination);
    node.onended = () => {
      if (this.node !== node) return;
      this.node = null; this.at = 0; this.ended();
    };
    this.begun = this.context.currentTime - this.at;
    node.start(0, this.at);
  }

  pause() {
    if (!this.node) return;
    this.at = this.time;
    const node = this.node;
    this.node = null;
    node.stop();
  }

  seek(seconds) {
    const was = this.playing;
    this.pause();
    this.at = Math.max(0, Math.min(this.seconds, seconds));
    if (was) this.play();
  }
}

/** Plays pieces as they come, a little behind. */
export class Monitor {
  constructor(rate) { this.rate = rate; this.context = new AudioContext(); this.next = 0; }

  push(samples) {
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    const node = this.context.createBufferSource();
    node.buffer = buffer;
    node.connect(this.context.destination);
    const now = this.context.currentTime;
    if (this.next < now + 0.01 || this.next > now + 0.5) this.next = now + 0.06;  // it fell behind
    node.start(this.next);
    this.next += buffer.duration;
  }

  close() { this.context.close(); }
}

/** A 16-bit WAV file. */
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF'); view.setUint32(4, 36 + 2 * samples.length, true); text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, 'data'); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => {
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(x * 32768))), true);
  });
  return new Blob([view], { type: 'audio/wav' });
}
