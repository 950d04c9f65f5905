// What happens when the page opens.

document.querySelectorAll('table.sortable').forEach(sortable);
if (byId('pairs-metric')) {
  byId('pairs-metric').addEventListener('change', filterPairs);
  byId('pairs-tied').addEventListener('change', filterPairs);
}
if (byId('matrix')) {
  byId('matrix-fact').addEventListener('change', chooseFact);
  chooseFact();
}
byId('worst-subject').value = String(Math.max(data.best, 0));
for (const id of ['worst-subject', 'worst-metric', 'worst-count']) byId(id).addEventListener('input', drawWorst);
byId('curve-metric').addEventListener('change', drawCurve);
entries.forEach((entry, number) => {
  const player = new Player(entry, number);
  players.push(player);
  byId('players').append(player.box);
  player.trace(); // its colours are known from here on
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => players.forEach((player) => player.trace()));
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
