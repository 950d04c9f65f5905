// The protocol of audiotok/serving/server/protocol.py, as a browser speaks it.

const AUDIO = 1, TOKENS = 2, HEAD = 8;
// So many messages may wait for their answers; the rest of a file waits here.
const AHEAD = 65536;

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** Codes [codebooks][frames], unpacked lowest bit first. */
export function unpack(bytes, widths, frames) {
  const rows = widths.map(() => new Uint32Array(frames));
  let bit = 0;
  for (let f = 0; f < frames; f++) {
    for (let k = 0; k < widths.length; k++) {
      let value = 0;
      for (let done = 0; done < widths[k];) {
        const shift = bit & 7, take = Math.min(8 - shift, widths[k] - done);
        value |= ((bytes[bit >> 3] >> shift) & ((1 << take) - 1)) << done;
        done += take; bit += take;
      }
      rows[k][f] = value;
    }
  }
  return rows;
}

export function pack(rows, widths, first, last) {
  const bits = (last - first) * widths.slice(0, rows.length).reduce((a, b) => a + b, 0);
  const bytes = new Uint8Array((bits + 7) >> 3);
  let bit = 0;
  for (let f = first; f < last; f++) {
    for (let k = 0; k < rows.length; k++) {
      let value = rows[k][f];
      for (let left = widths[k]; left > 0;) {
        const shift = bit & 7, take = Math.min(8 - shift, left);
        bytes[bit >> 3] |= (value & ((1 << take) - 1)) << shift;
        value >>= take; left -= take; bit += take;
      }
    }
  }
  return bytes;
}

function message(kind, rows, count, body) {
  const data = new Uint8Array(HEAD + body.byteLength);
  const view = new DataView(data.buffer);
  view.setUint8(0, kind); view.setUint16(2, rows, true); view.setUint32(4, count, true);
  data.set(new Uint8Array(body.buffer, body.byteOffset, body.byteLength), HEAD);
  return data;
}

/** One connection. `on` has codes(rows), samples(Float32Array), end(summary), draining(seconds). */
export class Server {
  static connect(token) {
    return new Promise((resolve, reject) => {
      const server = new Server();
      const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
      const protocols = ['audiotok.v1', ...(token ? ['bearer.' + base64url(token)] : [])];
      const socket = server.socket = new WebSocket(`${scheme}//${location.host}/v1/stream`, protocols);
      socket.binaryType = 'arraybuffer';
      socket.onmessage = (event) => {
        if (typeof event.data === 'string') {
          const said = JSON.parse(event.data);
          if (said.type === 'hello') {
            server.hello = said;
            server.widths = said.sizes.map((size) => Math.ceil(Math.log2(size)));
            server.say({ type: 'colours' });
          } else if (said.type === 'colours') {
            const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            server.colours = { by: said.by, tables: said.tables.map(bytes) };
            resolve(server);
          } else server.hear(said);
        } else server.binary(event.data);
      };
      socket.onclose = (event) => {
        const why = server.why || event.reason || 'the server cannot be reached, or refuses';
        if (!server.colours) reject(new Error(why));
        server.closed(why);
      };
      server.on = {};
      server.closed = () => {};
    });
  }

  start(mode, on, options = {}) {
    this.on = on;
    this.rows = options.codebooks || this.hello.codebooks;
    const { codec, fingerprint } = this.hello;
    this.say({ type: 'start', mode, codec, fingerprint, format: 's16le', ...options });
  }

  say(what) { this.socket.send(JSON.stringify(what)); }

  /** Samples, in messages of at most a second. */
  audio(samples) {
    const whole = new Int16Array(samples.length);
    for (let i = 0; i < samples.length; i++) {
      whole[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
    }
    const step = Math.min(this.hello.sample_rate, (this.hello.limits.message_bytes - HEAD) >> 1);
    for (let at = 0; at < whole.length; at += step) {
      const part = whole.subarray(at, at + step);
      this.socket.send(message(AUDIO, 1, part.length, part));
    }
  }

  /** A whole recording, no faster than it is taken. */
  async audioWhole(samples) {
    const step = this.hello.sample_rate >> 1;
    for (let at = 0; at < samples.length; at += step) {
      while (this.socket.bufferedAmount > AHEAD) await new Promise((done) => setTimeout(done, 10));
      if (this.socket.readyState !== WebSocket.OPEN) return;
      this.audio(samples.subarray(at, at + step));
    }
  }

  /** The first codebooks of codes. */
  tokens(rows) {
    const frames = rows[0].length, step = 500;
    for (let at = 0; at < frames; at += step) {
      const last = Math.min(frames, at + step);
      this.socket.send(message(TOKENS, rows.length, last - at, pack(rows, this.widths, at, last)));
    }
  }

  end(samples) { this.say(samples === undefined ? { type: 'end' } : { type: 'end', samples }); }

  hear(said) {
    if (said.type === 'error') this.why = said.message;
    this.on[said.type]?.(said);
  }

  binary(data) {
    const view = new DataView(data);
    const kind = view.getUint8(0), rows = view.getUint16(2, true), count = view.getUint32(4, true);
    if (kind === TOKENS) {
      this.on.codes?.(unpack(new Uint8Array(data, HEAD), this.widths.slice(0, rows), count));
    } else {
      const whole = new Int16Array(data.slice(HEAD)), samples = new Float32Array(whole.length);
      for (let i = 0; i < whole.length; i++) samples[i] = whole[i] / 32768;
      this.on.samples?.(samples);
    }
  }
}
