// Hands on what the microphone gives, in pieces of about 20 ms.

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = []; this.size = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    if (!channels.length) return true;
    const mixed = channels[0].slice();
    for (const other of channels.slice(1)) for (let i = 0; i < mixed.length; i++) mixed[i] += other[i];
    if (channels.length > 1) for (let i = 0; i < mixed.length; i++) mixed[i] /= channels.length;
    this.held.push(mixed); this.size += mixed.length;
    if (this.size >= sampleRate / 50) {
      const piece = new Float32Array(this.size);
      let at = 0;
      for (const part of this.held) { piece.set(part, at); at += part.length; }
      this.port.postMessage(piece, [piece.buffer]);
      this.held = []; this.size = 0;
    }
    return true;
  }
}

registerProcessor('tap', Tap);
