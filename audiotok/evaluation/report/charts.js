// Charts: quality against rate, and all metrics at once.

const colour = (i) => `var(--c${i % COLOURS})`;

// Round numbers between two bounds.
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

const short = (value) => String(Number(value.toPrecision(4)));

// Shapes tell lines apart where colours do not.
function marker(kind, x, y, fill) {
  const shapes = [
    () => svg('circle', { cx: x, cy: y, r: 5, fill }),
    () => svg('rect', { x: x - 4.5, y: y - 4.5, width: 9, height: 9, fill }),
    () => svg('path', { d: `M${x} ${y - 6}l6 10.5h-12z`, fill }),
    () => svg('path', { d: `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5z`, fill }),
  ];
  return shapes[kind % shapes.length]();
}

function drawCurve() {
  const holder = byId('curve');
  const metric = metricNamed(byId('curve-metric').value);
  holder.replaceChildren();
  if (metric < 0) return;
  const about = data.metrics[metric];
  const rows = data.subjects.map((subject, i) => ({ ...subject, mean: data.means[metric][i] }))
    .filter((row) => row.mean && row.mean[0] !== null);
  const points = rows.filter((row) => row.kbps > 0);
  const lines = rows.filter((row) => !(row.kbps > 0));
  if (!points.length) {
    holder.append(el('p', { class: 'note' }, 'No row has both a rate and a mean of this metric.'));
    return;
  }
  const width = 640, height = 380, left = 58, right = 92, top = 14, bottom = 46;
  // Noise far below everything would flatten the curves: only rows with a rate set the scale,
  // and others within twice its span.
  let values = points.flatMap((row) => row.mean).filter((v) => v !== null);
  const span = Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1;
  const near = lines.filter((row) => row.mean[0] > Math.min(...values) - span
    && row.mean[0] < Math.max(...values) + span);
  values = values.concat(near.map((row) => row.mean[0]));
  const pad = (Math.max(...values) - Math.min(...values) || 1) * 0.07;
  const low = Math.min(...values) - pad, high = Math.max(...values) + pad;
  const rates = points.map((row) => Math.log2(row.kbps));
  const slow = Math.min(...rates) - 0.35, fast = Math.max(...rates) + 0.35;
  const x = (kbps) => left + (Math.log2(kbps) - slow) / (fast - slow) * (width - left - right);
  const y = (value) => top + (high - value) / (high - low) * (height - top - bottom);
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': `${about.name} against kbps` });
  for (const at of ticks(low, high, 5)) {
    picture.append(svg('line', { class: 'axis', x1: left, x2: width - right, y1: y(at), y2: y(at) }),
      svg('text', { x: left - 8, y: y(at) + 4, 'text-anchor': 'end' }, short(at)));
  }
  for (let power = Math.ceil(slow); power <= fast; power += 1) {
    picture.append(
      svg('line', { class: 'axis', x1: x(2 ** power), x2: x(2 ** power), y1: top, y2: height - bottom }),
      svg('text', { x: x(2 ** power), y: height - bottom + 17, 'text-anchor': 'middle' }, short(2 ** power)));
  }
  picture.append(
    svg('text', { x: (left + width - right) / 2, y: height - 8, 'text-anchor': 'middle' }, 'kbps, as written'),
    svg('text', { x: 14, y: top + (height - top - bottom) / 2, 'text-anchor': 'middle',
      transform: `rotate(-90 14 ${top + (height - top - bottom) / 2})` },
    [about.name, about.unit && `(${about.unit})`, `${about.better} is better`].filter(Boolean).join(' ')));
  const labels = [];
  for (const row of near) {
    picture.append(svg('line', { class: 'dash', x1: left, x2: width - right, y1: y(row.mean[0]), y2: y(row.mean[0]) }));
    labels.push({ y: y(row.mean[0]), text: row.name });
  }
  const families = [...new Set(points.map((row) => row.family))];
  families.forEach((family, i) => {
    const own = points.filter((row) => row.family === family).sort((a, b) => a.kbps - b.kbps);
    if (own.length > 1) {
      picture.append(svg('polyline', { points: own.map((row) => `${x(row.kbps)},${y(row.mean[0])}`).join(' '),
        fill: 'none', stroke: colour(i), 'stroke-width': 2 }));
    }
    for (const row of own) {
      const [value, down, up] = row.mean;
      if (down !== null && up !== null) {
        const at = x(row.kbps);
        picture.append(svg('path', { d: `M${at} ${y(down)}V${y(up)}M${at - 5} ${y(down)}h10M${at - 5} ${y(up)}h10`,
          stroke: colour(i), 'stroke-width': 1.5, fill: 'none' }));
      }
      const dot = svg('g', {}, marker(i, x(row.kbps), y(value), colour(i)));
      const range = down === null ? '' : ` (${down.toFixed(about.places)} to ${up.toFixed(about.places)})`;
      dot.append(svg('title', {}, `${row.name}: ${value.toFixed(about.places)}${range} at ${short(row.kbps)} kbps`));
      picture.append(dot);
    }
    labels.push({ y: y(own[own.length - 1].mean[0]), text: family, fill: colour(i) });
  });
  labels.sort((a, b) => a.y - b.y);
  let last = -Infinity;
  for (const label of labels) { // one below the other where they would meet
    last = Math.max(label.y, last + 14);
    const fill = label.fill ? `fill:${label.fill};font-weight:600` : null;
    const text = label.text.length > 13 ? `${label.text.slice(0, 12)}…` : label.text;
    picture.append(svg('text', { x: width - right + 8, y: last + 4, style: fill }, text, svg('title', {}, label.text)));
  }
  holder.append(picture);
  const far = lines.filter((row) => !near.includes(row));
  if (far.length) {
    const said = far.map((row) => `${row.name} ${row.mean[0].toFixed(about.places)}`).join(', ');
    holder.append(el('p', { class: 'note' }, `Off the scale: ${said}.`));
  }
}

// The best row, and others in their order.
const competing = data.subjects.map((s, i) => i).filter((i) => data.subjects[i].competes);
const shown = new Set([data.best, ...competing.filter((i) => i !== data.best)].filter((i) => i >= 0).slice(0, COLOURS));

function drawRadar() {
  const holder = byId('radar');
  holder.replaceChildren();
  const drawn = [...shown].sort((a, b) => a - b);
  const spokes = data.metrics.map((metric, m) => {
    const values = drawn.map((s) => (data.means[m][s] ? data.means[m][s][0] : null)).filter((v) => v !== null);
    return { ...metric, m, low: Math.min(...values), high: Math.max(...values), n: values.length };
  }).filter((spoke) => spoke.ran && spoke.n > 1 && spoke.high > spoke.low);
  if (spokes.length < 3 || drawn.length < 2) {
    holder.append(el('p', { class: 'note' }, 'Needs two rows and three metrics in which they differ.'));
    return;
  }
  const size = 400, middle = size / 2, radius = 138;
  const at = (i, share) => {
    const angle = 2 * Math.PI * i / spokes.length - Math.PI / 2;
    return [middle + Math.cos(angle) * radius * share, middle + Math.sin(angle) * radius * share];
  };
  const beside = Math.max(0, 9 * Math.max(...spokes.map((spoke) => spoke.name.length)) - 40); // long names
  const picture = svg('svg', { viewBox: `${-beside} 0 ${size + 2 * beside} ${size}`, role: 'img', 'aria-label': 'All metrics' });
  for (const share of [0.25, 0.5, 0.75, 1]) {
    picture.append(svg('polygon', { class: 'axis', fill: 'none', points: spokes.map((_, i) => at(i, share).join()).join(' ') }));
  }
  spokes.forEach((spoke, i) => {
    const [x, y] = at(i, 1), [tx, ty] = at(i, 1.12);
    picture.append(svg('line', { class: 'axis', x1: middle, y1: middle, x2: x, y2: y }),
      svg('text', { x: tx, y: ty + 4, 'text-anchor': Math.abs(tx - middle) < 20 ? 'middle' : tx > middle ? 'start' : 'end' }, spoke.name));
  });
  for (const subject of drawn) {
    const place = drawn.indexOf(subject);
    const points = spokes.map((spoke, i) => {
      const mean = data.means[spoke.m][subject];
      if (!mean || mean[0] === null) return null;
      const share = (mean[0] - spoke.low) / (spoke.high - spoke.low);
      return at(i, spoke.better === 'higher' ? share : 1 - share);
    });
    // A subject with a hole is drawn as the corners it has: a missing score is no worst score.
    if (points.every(Boolean)) {
      picture.append(svg('polygon', { points: points.map((p) => p.join()).join(' '), stroke: colour(place),
        'stroke-width': 2, fill: colour(place), 'fill-opacity': 0.07 }, svg('title', {}, nameOf(subject))));
    }
    points.filter(Boolean).forEach(([x, y]) => picture.append(svg('circle', { cx: x, cy: y, r: 3, fill: colour(place) })));
  }
  holder.append(picture);
}

function pickRadar() {
  const holder = byId('radar-pick');
  holder.replaceChildren(...data.subjects.map((subject, i) => {
    const place = [...shown].sort((a, b) => a - b).indexOf(i);
    return el('label', {},
      el('input', { type: 'checkbox', checked: shown.has(i), onchange: (event) => {
        if (event.target.checked) shown.add(i); else shown.delete(i);
        pickRadar();
      } }),
      place < 0 ? null : el('span', { class: 'swatch', style: `background:${colour(place)}` }), subject.name);
  }));
  drawRadar();
}
