// Values that the page says in words: those under the pointer, and how far the server is behind.

/** What a plot of `span` samples shows at shares of its width and height; '' past the recording. */
export function valueAt(plot, take, { sample_rate, frame_size }, span, x, y) {
  const at = Math.floor(x * span), time = (sample) => `${(sample / sample_rate).toFixed(2)} s`;
  if (at < 0 || at >= take.length) return '';
  if (plot === 'wave') return time(at);
  if (plot === 'spectrum') return `${time(at)} · ${50 * Math.round((1 - y) * sample_rate / 100)} Hz`;
  const k = Math.max(0, Math.min(take.codes.length - 1, Math.floor(y * take.codes.length)));
  const frame = Math.floor(at / frame_size), code = take.codes[k][frame];
  return code === undefined ? '' : `codebook ${k + 1} · frame ${frame} · ${time(frame * frame_size)} · code ${code}`;
}

const PIECE = 0.02;  // seconds of a piece of the microphone
const BEHIND = 150;  // ms past the latency from which the server is behind
const CHANGE = 50;   // ms in a second from which it gains or loses

/** How many ms the decoded speech comes later than it should. */
export class Lag {
  constructor({ sample_rate, frame_size, latency }) {
    this.rate = sample_rate;
    this.expected = latency + frame_size / sample_rate + PIECE;
    this.past = [];
    this.worst = 0;  // of what was said
  }

  /** A sentence at time `now` (ms), '' if it is in time, from the samples that were sent and came back. */
  at(now, sent, back) {
    const late = 1000 * ((sent - back) / this.rate - this.expected);
    this.past = [...this.past.filter(([time]) => time > now - 1000), [now, late]];
    const [began, before] = this.past[0];
    // Not for a moment's jitter: for most of a second.
    if (now - began < 700 || Math.min(...this.past.map(([, ms]) => ms)) < BEHIND) return '';
    this.worst = Math.max(this.worst, late);
    const growth = late - before;
    const trend = growth > CHANGE ? ' and falls further back' : growth < -CHANGE ? ' and catches up' : '';
    return `The server is ${10 * Math.round(late / 10)} ms behind${trend}: it, or the connection, is slower than you speak. `
      + 'Tokens and sound come that much later; nothing is lost.';
  }
}
