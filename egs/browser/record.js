// A button that records the microphone until it is pressed again.
export const recorder = (take, say) => {
  let recording;
  return async ({ target }) => {
    if (recording) return recording.stop();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const pieces = [];
    recording = new MediaRecorder(stream);
    recording.ondataavailable = (event) => pieces.push(event.data);
    recording.onstop = async () => {
      stream.getTracks().forEach((track) => track.stop());
      recording = undefined;
      target.textContent = "record";
      await new Blob(pieces).arrayBuffer().then(take).catch((error) => say(`error: ${error.message ?? error}`));
    };
    recording.start();
    target.textContent = "stop";
    say("recording ...");
  };
};
