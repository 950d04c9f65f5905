// What happens when the page opens.

document.querySelectorAll('table.sortable').forEach(sortable);
if (byId('pairs-metric')) {
  byId('pairs-metric').addEventListener('change', filterPairs);
  byId('pairs-tied').addEventListener('change', filterPairs);
}
const firstCodec = data.subjects.findIndex((subject) => subject.kind === 'codec');
byId('worst-subject').value = String(Math.max(firstCodec, 0));
for (const id of ['worst-subject', 'worst-metric', 'worst-count']) byId(id).addEventListener('input', drawWorst);
byId('curve-metric').addEventListener('change', drawCurve);
entries.forEach((entry, number) => {
  const player = new Player(entry, number);
  players.push(player);
  byId('players').append(player.box);
});
document.addEventListener('keydown', (event) => {
  if (document.querySelector('dialog[open]') || !(active || players[0])) return;
  const player = active || players[0];
  // A space scrolls the page until somebody listens.
  if (event.key === ' ' && !active) return;
  press(event, () => player.toggle(), (i) => i < player.entry.subjects.length && player.choose(player.entry.subjects[i]));
});
drawWorst();
drawCurve();
pickRadar();
if (byId('blind-form')) startBlind();
