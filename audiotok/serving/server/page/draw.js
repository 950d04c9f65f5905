// Waveform, tokens and spectrogram on canvases, as they grow, and the scales beside them.

const FFT = 512;
const WINDOW = Float32Array.from({ length: FFT }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / FFT));
// Viridis, in nine steps.
const STOPS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [253, 231, 37],
];
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const at = i / 255 * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[low].map((c, j) => Math.round(c + (STOPS[low + 1][j] - c) * (at - low)));
});

/** The canvas at the screen's own resolution. */
function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.max(1, Math.round(canvas.clientHeight * scale));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return [canvas.getContext('2d'), width, height];
}

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name); }

/** Labels at shares of a scale's length: `places` are [share, text]. */
export function scale(element, places, side) {
  const key = JSON.stringify(places);
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  element.replaceChildren(...places.map(([share, text]) => {
    const label = document.createElement('span');
    label.textContent = text;
    label.style[side] = `${100 * share}%`;
    return label;
  }));
}

const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200];

/** A time axis of `seconds`, a label every 50 pixels or more. */
export function timeAxis(element, seconds) {
  const most = Math.max(2, element.clientWidth / 50);
  const step = STEPS.find((step) => seconds / step <= most) ?? 3600;
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0, places = [];
  for (let i = 0; i * step < 0.96 * seconds; i++) {
    const at = i * step, minutes = Math.floor(at / 60), rest = String(at % 60).padStart(2, '0');
    places.push([at / seconds, step < 30 ? `${at.toFixed(digits)} s` : `${minutes}:${rest}`]);
  }
  scale(element, places, 'left');
}

/** A scale of Hz from 0 at the bottom to `top`. */
export function hertzScale(element, top) {
  const step = [500, 1000, 2000, 4000, 8000, 16000].find((step) => top / step <= 5) ?? 32000, places = [];
  for (let hertz = 0; hertz <= top; hertz += step) {
    places.push([1 - hertz / top, hertz < 1000 ? String(hertz) : `${hertz / 1000}k`]);
  }
  scale(element, places, 'top');
}

/** Numbers of codebooks at their rows, as many as fit. */
export function codebookScale(element, rows) {
  const every = Math.ceil(rows * 13 / Math.max(13, element.clientHeight)), places = [];
  for (let k = 0; k < rows; k += every) places.push([(k + 0.5) / rows, String(k + 1)]);
  scale(element, places, 'top');
}

/** Tracks over each other, `span` samples wide. */
export function waveform(canvas, tracks, span) {
  const [pen, width, height] = fitted(canvas);
  pen.clearRect(0, 0, width, height);
  let peak = 0.05;
  for (const { samples } of tracks) for (let i = 0; i < samples.length; i += 7) peak = Math.max(peak, Math.abs(samples[i]));
  for (const { samples, name, alpha } of tracks) {
    pen.fillStyle = colour(name); pen.globalAlpha = alpha;
    const step = span / width;
    for (let x = 0; x < width && x * step < samples.length; x++) {
      let low = 1, high = -1;
      const last = Math.min(samples.length, Math.ceil((x + 1) * step));
      for (let i = Math.floor(x * step); i < last; i++) {
        if (samples[i] < low) low = samples[i];
        if (samples[i] > high) high = samples[i];
      }
      const top = height / 2 * (1 - high / peak * 0.94), bottom = height / 2 * (1 - low / peak * 0.94);
      pen.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
  }
  pen.globalAlpha = 1;
}

/** A picture of columns, stretched over its share of the canvas; rows past `lit` are dim. */
class Strip {
  constructor(rows) { this.rows = rows; this.columns = 0; this.pixels = document.createElement('canvas'); this.grow(256); }

  grow(width) {
    const bigger = document.createElement('canvas');
    bigger.width = width; bigger.height = this.rows;
    if (this.columns) bigger.getContext('2d').drawImage(this.pixels, 0, 0);
    this.pixels = bigger; this.pen = bigger.getContext('2d', { willReadFrequently: false });
  }

  push(image) {
    while (this.columns + image.width > this.pixels.width) this.grow(2 * this.pixels.width);
    this.pen.putImageData(image, this.columns, 0);
    this.columns += image.width;
  }

  draw(canvas, span, smooth) {
    const [pen, width, height] = fitted(canvas);
    pen.clearRect(0, 0, width, height);
    if (!this.columns) return [pen, width, height];
    pen.imageSmoothingEnabled = smooth;
    pen.drawImage(this.pixels, 0, 0, this.columns, this.rows, 0, 0, width * this.columns / span, height);
    return [pen, width, height];
  }
}

/** Tokens: a row a codebook, a colour a code, from tables of red, green, blue. */
export class TokenMap {
  constructor(sizes, tables) { this.sizes = sizes; this.tables = tables; this.strip = new Strip(sizes.length); }

  get frames() { return this.strip.columns; }

  push(rows) {
    const frames = rows[0].length;
    if (!frames) return;
    const image = new ImageData(frames, this.sizes.length);
    rows.forEach((row, k) => {
      const table = this.tables[k % this.tables.length];
      for (let f = 0; f < frames; f++) {
        const at = 3 * row[f] % table.length;
        image.data.set([table[at], table[at + 1], table[at + 2], 255], 4 * (k * frames + f));
      }
    });
    this.strip.push(image);
  }

  draw(canvas, span, lit) {
    const [pen, width, height] = this.strip.draw(canvas, span, false);
    const each = height / this.sizes.length;
    pen.fillStyle = 'rgba(15, 19, 25, .78)';
    pen.fillRect(0, lit * each, width, height);
    pen.fillStyle = 'rgba(15, 19, 25, .9)';
    for (let k = 1; k < this.sizes.length; k++) pen.fillRect(0, Math.round(k * each), width, 1);
  }
}

/** In place, of FFT complex numbers. */
function transform(re, im) {
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= FFT; size <<= 1) {
    const half = size >> 1;
    for (let k = 0; k < half; k++) {
      const c = Math.cos(2 * Math.PI * k / size), s = -Math.sin(2 * Math.PI * k / size);
      for (let i = k; i < FFT; i += size) {
        const j = i + half, x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
        re[j] = re[i] - x; im[j] = im[i] - y; re[i] += x; im[i] += y;
      }
    }
  }
}

/** Levels of -85 to -20 dB over frequency, a column every `hop` samples. */
export class Spectrogram {
  constructor(hop) { this.hop = hop; this.strip = new Strip(FFT / 2); this.done = 0; }

  /** As far as the track has come. */
  follow(samples) {
    const columns = Math.floor((samples.length - FFT) / this.hop) + 1 - this.done;
    if (columns < 1) return;
    const image = new ImageData(columns, FFT / 2);
    const re = new Float32Array(FFT), im = new Float32Array(FFT);
    for (let c = 0; c < columns; c++) {
      const start = (this.done + c) * this.hop;
      for (let i = 0; i < FFT; i++) { re[i] = samples[start + i] * WINDOW[i]; im[i] = 0; }
      transform(re, im);
      for (let k = 0; k < FFT / 2; k++) {
        const power = (re[k] * re[k] + im[k] * im[k]) / (FFT * FFT / 16);
        const share = (10 * Math.log10(power + 1e-12) + 85) / 65;
        const [r, g, b] = COLOURS[Math.max(0, Math.min(255, Math.round(255 * share)))];
        image.data.set([r, g, b, 255], 4 * ((FFT / 2 - 1 - k) * columns + c));
      }
    }
    this.strip.push(image);
    this.done += columns;
  }

  draw(canvas, span) { this.strip.draw(canvas, span / this.hop, true); }
}
