"use strict";
/* The page of sockpool. It asks its own server, and whatever comes back is text: nodes are made one by one, and no markup
 * is ever made of a string. */
(() => {
  const $ = id => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const ROW = 32;

  /* ---- nodes ---- */

  function put(node, props, children) {
    for (const [key, value] of Object.entries(props || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : String(value));
    }
    node.append(...[].concat(children === undefined ? [] : children).filter(c => c !== null && c !== undefined));
    return node;
  }
  const el = (tag, props, children) => put(document.createElement(tag), props, children);
  const svg = (tag, props, children) => put(document.createElementNS(SVG, tag), props, children);

  /* ---- words ---- */

  const count = n => n === null || n === undefined ? "–" : n >= 1e9 ? (n / 1e9).toFixed(1) + " G" : n >= 1e6 ? (n / 1e6).toFixed(1) + " M"
    : n >= 1e4 ? (n / 1e3).toFixed(n >= 1e5 ? 0 : 1) + " k" : Number.isInteger(n) ? String(n) : n.toFixed(1);
  function us(n) {
    if (n === null || n === undefined) return "–";
    if (n < 1000) return n + " µs";
    if (n < 1e6) return +(n / 1e3).toPrecision(3) + " ms";
    return +(n / 1e6).toPrecision(3) + " s";
  }
  function ms(n) {
    if (n === null || n === undefined) return "–";
    if (n < 1000) return n + " ms";
    if (n < 60000) return +(n / 1000).toPrecision(3) + " s";
    if (n < 3600000) return Math.floor(n / 60000) + " min";
    if (n < 172800000) return +(n / 3600000).toPrecision(3) + " h";
    return Math.floor(n / 86400000) + " d";
  }
  const clock = t => new Date(t).toLocaleTimeString([], { hour12: false });

  /* ---- what is shown ---- */

  const rows = new Map();
  let shown = [];
  let number = 0, skew = 0, asked = false, failed = false, again = null, events = [], lastEvent = 0;
  let chosen = null, opened = null, range = "short", detail = null, connections = null;
  let sort = { key: "state", up: true };
  const stored = key => { try { return localStorage.getItem("sockpool-" + key); } catch (_) { return null; } };
  const store = (key, value) => { try { localStorage.setItem("sockpool-" + key, value); } catch (_) { /* none */ } };

  async function get(path) {
    const answer = await fetch(path, { cache: "no-store", credentials: "omit" });
    if (answer.status === 404) return null;
    if (!answer.ok) throw new Error(path + ": " + answer.status);
    return answer.json();
  }

  /* ---- states: a shape, a word and a colour ---- */

  const STATES = { down: ["down", 0], waiting: ["waiting", 1], full: ["full", 2], ok: ["ok", 3] };
  function mark(kind) {
    const box = svg("svg", { width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" });
    const fill = "var(--" + ({ down: "error", waiting: "error", full: "warning", ok: "ok", info: "notice", debug: "notice" }[kind] || kind) + ")";
    if (kind === "down" || kind === "error") box.append(svg("path", { d: "M2 2L10 10M10 2L2 10", stroke: fill, "stroke-width": 2.6 }));
    else if (kind === "waiting") box.append(svg("path", { d: "M2 1H10L6 6L10 11H2L6 6Z", fill }));
    else if (kind === "full" || kind === "warning") box.append(svg("path", { d: "M6 1L11.5 11H.5Z", fill }));
    else if (kind === "ok") box.append(svg("circle", { cx: 6, cy: 6, r: 4.6, fill }));
    else box.append(svg("rect", { x: 2, y: 2, width: 8, height: 8, fill }));
    return box;
  }
  const severity = s => el("span", { class: "sev " + s }, [mark(s), s === "ok" ? "all well" : s]);

  /* ---- the verdict ---- */

  function showVerdict(findings, all) {
    const box = $("verdict");
    const worst = findings.length ? findings[0].severity : "ok";
    box.className = worst;
    if (!findings.length) {
      box.replaceChildren(el("span", { class: "sev ok" }, [mark("ok"), "All well"]),
        all === 0 ? " – there is no pool on this node." : " – " + (all === 1 ? "the one pool" : "all " + all + " pools") + " of this node.");
      return;
    }
    box.replaceChildren(el("ul", {}, findings.slice(0, 3).map(f => el("li", {}, [
      severity(f.severity), " ", f.pool ? el("button", { class: "link", onclick: () => open(f.pool) }, f.pool) : "", f.pool ? ": " : "", f.text]))));
    if (findings.length > 3) box.append(el("div", { class: "muted" }, "and " + (findings.length - 3) + " more"));
  }

  /* ---- the table of pools ---- */

  const COLUMNS = [
    ["state", "State"], ["name", "Pool"], ["leased", "Connections"], ["waiting", "Waiting", 1], ["oldest_wait", "Oldest wait", 1],
    ["rate", "Leases/s", 1], ["reuse", "Reused", 1], ["wait_p50", "Wait p50", 1], ["wait_p99", "Wait p99", 1], ["use_p99", "Use p99", 1],
    ["connect_p99", "Connect p99", 1], ["errors", "Errors/s", 1], ["last_error_at", "Last error"]];

  function head() {
    $("head").replaceChildren(...COLUMNS.map(([key, title, isNumber]) => el("span", {
      role: "columnheader", class: isNumber ? "num" : "", "aria-sort": sort.key !== key ? "none" : sort.up ? "ascending" : "descending"
    }, el("button", { tabindex: 0, title: "Sort by " + title, onclick: () => {
      sort = { key, up: sort.key === key ? !sort.up : key === "name" || key === "state" };
      head(); arrange();
      const at = COLUMNS.findIndex(c => c[0] === key);
      $("head").children[at].firstChild.focus();
    } }, title + (sort.key !== key ? "" : sort.up ? " ▲" : " ▼")))));
  }

  const value = (row, key) => key === "state" ? STATES[row.state][1] : row[key];
  function arrange() {
    const wanted = $("search").value.trim().toLowerCase();
    shown = [...rows.values()].filter(row => !wanted || row.name.toLowerCase().includes(wanted) ||
      (row.last_error || "").toLowerCase().includes(wanted));
    const way = sort.up ? 1 : -1;
    shown.sort((a, b) => {
      const x = value(a, sort.key), y = value(b, sort.key);
      if (x === y) return sort.key === "state" && a.rate !== b.rate ? b.rate - a.rate : a.name < b.name ? -1 : 1;
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return (x < y ? -1 : 1) * way;
    });
    $("count").textContent = shown.length === rows.size ? "(" + rows.size + ")" : "(" + shown.length + " of " + rows.size + ")";
    $("pools").setAttribute("aria-rowcount", shown.length + 1);
    $("body").style.height = (shown.length ? shown.length * ROW : 56) + "px";
    draw();
  }

  function meter(row) {
    const most = Math.max(row.limit, row.total, 1), part = n => 100 * n / most;
    const box = svg("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img",
      "aria-label": row.leased + " leased, " + row.idle + " idle, " + row.connecting + " connecting, at most " + row.limit });
    box.append(svg("rect", { x: 0, y: 2, width: 100, height: 10, fill: "var(--track)" }));
    let x = 0;
    for (const [n, fill] of [[row.leased, "var(--leased)"], [row.idle, "var(--idle)"], [row.connecting, "url(#hatch)"]])
      if (n > 0) { box.append(svg("rect", { x, y: 2, width: part(n), height: 10, fill })); x += part(n); }
    if (row.size < row.limit) box.append(svg("rect", { x: Math.min(99.2, part(row.size)), y: 0, width: .8, height: 14, fill: "var(--muted)" }));
    if (row.peak) box.append(svg("rect", { x: Math.max(0, part(row.peak) - 1.2), y: 0, width: 1.2, height: 14, fill: "var(--text)" }));
    return el("span", { class: "meter", title: row.leased + " leased, " + row.idle + " idle, " + row.connecting + " connecting; size " + row.size +
      ", limit " + row.limit + (row.peak ? "; at most " + row.peak + " leased in the last minute" : "") },
      [box, el("span", {}, row.leased + "/" + row.limit)]);
  }

  function cells(row) {
    const num = (text, hot) => el("span", { role: "gridcell", class: "num" + (hot ? " hot" : "") }, text);
    const error = row.last_error === null ? "" : ms(Math.max(0, Date.now() + skew - row.last_error_at)) + " ago: " + row.last_error;
    return [
      el("span", { role: "gridcell", class: "state " + row.state }, [mark(row.state), el("span", { class: "word" }, STATES[row.state][0])]),
      el("span", { role: "gridcell", class: "name", title: row.name }, row.name),
      el("span", { role: "gridcell" }, meter(row)),
      num(count(row.waiting), row.waiting > 0), num(row.oldest_wait ? ms(row.oldest_wait) : "–", row.oldest_wait >= 1000), num(count(row.rate)),
      num(row.reuse === null ? "–" : row.reuse + " %"), num(us(row.wait_p50)), num(us(row.wait_p99)), num(us(row.use_p99)), num(us(row.connect_p99)),
      num(row.errors ? count(row.errors) : "–", row.errors > 0), el("span", { role: "gridcell", class: "muted", title: error }, error)];
  }

  function draw() {
    const view = $("pools"), first = Math.max(0, Math.floor(view.scrollTop / ROW) - 4);
    const last = Math.min(shown.length, first + Math.ceil((view.clientHeight || 424) / ROW) + 9);
    const nodes = [];
    for (let i = first; i < last; i++) {
      const row = shown[i];
      const node = el("div", { class: "row", role: "row", id: "row-" + i, "aria-rowindex": i + 2, "aria-selected": row.name === chosen,
        onclick: () => { chosen = row.name; open(row.name); } }, cells(row));
      node.style.top = i * ROW + "px";
      nodes.push(node);
    }
    if (!shown.length) nodes.push(el("div", { class: "empty" }, rows.size ? "No pool has that in its name." : "There is no pool on this node."));
    $("body").replaceChildren(...nodes);
    const at = shown.findIndex(row => row.name === chosen);
    if (at >= first && at < last) view.setAttribute("aria-activedescendant", "row-" + at); else view.removeAttribute("aria-activedescendant");
  }

  function choose(step) {
    if (!shown.length) return;
    const at = shown.findIndex(row => row.name === chosen);
    const to = at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.min(shown.length - 1, Math.max(0, at + step));
    const view = $("pools"), top = to * ROW, height = view.clientHeight - 36;
    chosen = shown[to].name;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + ROW > view.scrollTop + height) view.scrollTop = top + ROW - height;
    draw();
  }

  /* ---- one pool ---- */

  function open(name) {
    opened = chosen = name;
    detail = connections = null;
    history.replaceState(null, "", "#" + encodeURIComponent(name));
    $("detail").hidden = false;
    $("detail-title").textContent = name;
    for (const id of ["tiles", "history", "h-wait", "h-use", "h-connect", "phases", "closes", "errors", "longest", "peers", "conns"]) $(id).replaceChildren();
    draw();
    refresh();
    $("detail-title").focus({ preventScroll: true });
    $("detail").scrollIntoView({ block: "nearest", behavior: "auto" });
  }

  function close() {
    opened = detail = connections = null;
    $("detail").hidden = true;
    history.replaceState(null, "", location.pathname);
    $("pools").focus();
  }

  const tile = (name, text, hot) => el("div", { class: "tile" }, [el("b", { class: hot ? "hot" : "" }, text), el("span", {}, name)]);

  function showDetail() {
    const { row, counters, histograms } = detail;
    $("detail-state").replaceChildren(el("span", { class: "state " + row.state }, [mark(row.state), STATES[row.state][0]]));
    $("tiles").replaceChildren(
      tile("leased of " + row.limit, count(row.leased)), tile("idle", count(row.idle)), tile("connecting", count(row.connecting)),
      tile("waiting", count(row.waiting), row.waiting > 0), tile("oldest wait", row.oldest_wait ? ms(row.oldest_wait) : "–", row.oldest_wait >= 1000),
      tile("leases/s", count(row.rate)), tile("reused", row.reuse === null ? "–" : row.reuse + " %"), tile("leases", count(counters.checkouts)),
      tile("opened", count(counters.created)), tile("closed", count(counters.closed)), tile("abandoned", count(counters.abandoned)),
      tile("held too long", count(counters.leaked)), tile("connects failed", count(counters.connect_failures)),
      tile("all in use for", ms(counters.exhausted)));
    $("history").replaceChildren(area(detail[range], row));
    distribution($("h-wait"), histograms.wait, histograms.bounds);
    distribution($("h-use"), histograms.use, histograms.bounds);
    distribution($("h-connect"), histograms.connect.total, histograms.bounds);
    phases(histograms.connect);
    reasons($("closes"), counters.closed_by, "None is closed so far.");
    reasons($("errors"), Object.assign({}, counters.errors, Object.fromEntries(Object.entries(counters.connect_failed_by || {})
      .map(([key, n]) => ["connect: " + key, n]))), "No error so far.");
  }

  function area(points, row) {
    if (points.length < 2) return el("p", { class: "muted" }, range === "short" ? "Two looks are needed: one a second." : "Two looks are needed: one in ten seconds, while this page is open.");
    const W = 1100, H = 210, L = 38, R = 8, T = 8, B = 22;
    const span = range === "short" ? 60000 : 3600000, end = points[points.length - 1][0], begin = Math.max(points[0][0], end - span);
    const top = Math.max(1, ...points.map(p => Math.max(p[1] + p[2] + p[3], p[4], p[5]))) * 1.06;
    const x = t => L + (W - L - R) * (t - begin) / Math.max(1, end - begin), y = n => H - B - (H - T - B) * n / top;
    const box = svg("svg", { viewBox: "0 0 " + W + " " + H, role: "img", width: "100%", "aria-label": "Leased, idle and connecting connections, and those who wait, over time. Now " +
      row.leased + " leased, " + row.idle + " idle, " + row.connecting + " connecting, " + row.waiting + " waiting." });
    for (const n of ticks(top)) box.append(svg("line", { x1: L, x2: W - R, y1: y(n), y2: y(n), stroke: "var(--line)" }),
      svg("text", { x: L - 6, y: y(n) + 4, "text-anchor": "end" }, count(n)));
    for (let i = 0; i <= 4; i++) {
      const t = begin + (end - begin) * i / 4;
      box.append(svg("text", { x: x(t), y: H - 6, "text-anchor": i === 0 ? "start" : i === 4 ? "end" : "middle" }, clock(t)));
    }
    const path = (from, to) => "M" + points.map(p => x(p[0]) + "," + y(to(p))).join("L") + "L" + points.slice().reverse().map(p => x(p[0]) + "," + y(from(p))).join("L") + "Z";
    box.append(svg("path", { d: path(() => 0, p => p[2]), fill: "var(--leased)" }),
      svg("path", { d: path(p => p[2], p => p[2] + p[1]), fill: "var(--idle)" }),
      svg("path", { d: path(p => p[2] + p[1], p => p[2] + p[1] + p[3]), fill: "url(#hatch)" }));
    const line = (at, props) => svg("path", Object.assign({ d: "M" + points.map(p => x(p[0]) + "," + y(p[at])).join("L"), fill: "none" }, props));
    if (row.size !== row.limit) box.append(line(6, { stroke: "var(--muted)", "stroke-width": 1.2 }));
    box.append(line(5, { stroke: "var(--text)", "stroke-width": 1.4, "stroke-dasharray": "6 4" }),
      line(4, { stroke: "var(--card)", "stroke-width": 4.5 }), line(4, { stroke: "var(--waiting)", "stroke-width": 2.2 }));
    const cursor = svg("line", { y1: T, y2: H - B, stroke: "var(--text)", "stroke-width": 1, visibility: "hidden" }), said = el("span", { class: "muted" }, " ");
    box.append(cursor);
    box.addEventListener("mousemove", event => {
      const rect = box.getBoundingClientRect(), t = begin + ((event.clientX - rect.left) * W / rect.width - L) * (end - begin) / (W - L - R);
      const p = points.reduce((best, one) => Math.abs(one[0] - t) < Math.abs(best[0] - t) ? one : best);
      put(cursor, { x1: x(p[0]), x2: x(p[0]), visibility: "visible" });
      said.textContent = clock(p[0]) + ": " + p[2] + " leased, " + p[1] + " idle, " + p[3] + " connecting, " + p[4] + " waiting, limit " + p[5] + ", " + count(p[7]) + " leases/s";
    });
    box.addEventListener("mouseleave", () => { put(cursor, { visibility: "hidden" }); said.textContent = " "; });
    return el("div", {}, [box, el("div", { class: "bar" }, [legend(row.size !== row.limit), el("span", { class: "grow" }), said])]);
  }

  function ticks(top) {
    const raw = top / 4, power = Math.pow(10, Math.floor(Math.log10(raw))), step = Math.max(1, [1, 2, 5, 10].find(n => n * power >= raw) * power), all = [];
    for (let n = 0; n <= top; n += step) all.push(n);
    return all;
  }

  function swatch(kind) {
    const box = svg("svg", { width: 16, height: 10, "aria-hidden": "true" });
    if (kind === "limit") box.append(svg("line", { x1: 0, x2: 16, y1: 5, y2: 5, stroke: "var(--text)", "stroke-width": 1.5, "stroke-dasharray": "5 3" }));
    else if (kind === "size") box.append(svg("line", { x1: 0, x2: 16, y1: 5, y2: 5, stroke: "var(--muted)", "stroke-width": 1.5 }));
    else if (kind === "waiting") box.append(svg("line", { x1: 0, x2: 16, y1: 5, y2: 5, stroke: "var(--waiting)", "stroke-width": 2.4 }));
    else if (kind === "peak") box.append(svg("rect", { x: 7, y: 0, width: 2.4, height: 10, fill: "var(--text)" }));
    else box.append(svg("rect", { width: 16, height: 10, fill: kind === "connecting" ? "url(#hatch)" : "var(--" + kind + ")" }));
    return box;
  }
  const keys = list => list.map(([kind, word]) => el("li", {}, [swatch(kind), word]));
  const legend = size => el("ul", { class: "legend" }, keys([["leased", "leased"], ["idle", "idle"], ["connecting", "connecting"], ["waiting", "waiting"], ["limit", "limit"]].concat(size ? [["size", "size"]] : [])));

  function rank(histogram, part) {
    let left = Math.ceil(part * histogram.count);
    return histogram.buckets.findIndex(n => (left -= n) <= 0);
  }

  function distribution(box, histogram, bounds) {
    if (!histogram.count) { box.replaceChildren(el("p", { class: "muted" }, "None so far.")); return; }
    const W = 330, H = 120, B = 18, T = 4, used = histogram.buckets.map((n, i) => n ? i : -1).filter(i => i >= 0);
    const from = Math.max(0, used[0] - 1), to = Math.min(histogram.buckets.length - 1, used[used.length - 1] + 1), wide = W / (to - from + 1);
    const most = Math.max(...histogram.buckets), bound = i => i < bounds.length ? us(bounds[i]) : "more";
    const name = part => { const i = rank(histogram, part); return i < bounds.length ? "≤ " + us(bounds[i]) : "> " + us(bounds[bounds.length - 1]); };
    const text = "p50 " + name(.5) + ", p99 " + name(.99) + ", mean " + us(Math.round(histogram.sum / histogram.count));
    const picture = svg("svg", { viewBox: "0 0 " + W + " " + H, role: "img", width: "100%", "aria-label": text });
    for (let i = from; i <= to; i++) {
      const n = histogram.buckets[i], high = n ? Math.max(1.5, (H - B - T) * n / most) : 0, each = Math.ceil((to - from + 1) / 7);
      picture.append(svg("rect", { x: (i - from) * wide + 1, y: H - B - high, width: Math.max(1, wide - 2), height: high, rx: 1.5, fill: "var(--bar)" },
        svg("title", {}, "≤ " + bound(i) + ": " + n)));
      if ((i - from) % each === 0) picture.append(svg("text", { x: (i - from) * wide + wide / 2, y: H - 4, "text-anchor": "middle" }, bound(i)));
    }
    picture.append(svg("line", { x1: 0, x2: W, y1: H - B, y2: H - B, stroke: "var(--line)" }));
    box.replaceChildren(picture, el("div", { class: "muted" }, count(histogram.count) + ": " + text));
  }

  const PHASES = [["resolve", "name look-up", "var(--connecting)"], ["tcp", "TCP", "var(--leased)"], ["tls", "TLS", "var(--idle)"], ["init", "init", "var(--waiting)"]];
  function phases(connect) {
    const all = PHASES.map(([key]) => connect[key].sum), sum = all.reduce((a, b) => a + b, 0);
    if (!sum || !connect.total.count) { $("phases").replaceChildren(el("p", { class: "muted" }, "None so far.")); return; }
    let x = 0;
    const box = svg("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", width: "100%", height: 20, role: "img",
      "aria-label": PHASES.map(([, word], i) => word + " " + Math.round(100 * all[i] / sum) + " %").join(", ") });
    PHASES.forEach(([, word, fill], i) => {
      const width = 100 * all[i] / sum;
      box.append(svg("rect", { x, y: 0, width: Math.max(0, width - .4), height: 20, fill }, svg("title", {}, word)));
      x += width;
    });
    $("phases").replaceChildren(box, el("table", {}, el("tbody", {}, PHASES.map(([key, word, fill], i) => el("tr", {}, [
      el("td", {}, [svgBox(fill), " " + word]), el("td", { class: "num" }, Math.round(100 * all[i] / sum) + " %"),
      el("td", { class: "num" }, connect[key].count ? us(Math.round(all[i] / connect[key].count)) + " each" : "–")])))));
  }
  function svgBox(fill) {
    const box = svg("svg", { width: 10, height: 10, "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, fill }));
    box.style.display = "inline-block";
    return box;
  }

  function reasons(box, counts, none) {
    const some = Object.entries(counts || {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    if (!some.length) { box.replaceChildren(el("p", { class: "muted" }, none)); return; }
    const most = some[0][1];
    box.replaceChildren(el("div", { class: "bars" }, some.flatMap(([key, n]) => [el("span", {}, key.replaceAll("_", " ")),
      svg("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: Math.max(1, 100 * n / most), height: 12, fill: "var(--bar)" })),
      el("span", { class: "num" }, count(n))])));
  }

  function table(headings, lines) {
    return el("table", {}, [el("thead", {}, el("tr", {}, headings.map(([word, isNumber]) => el("th", { scope: "col", class: isNumber ? "num" : "" }, word)))),
      el("tbody", {}, lines.map(line => el("tr", {}, line.map((text, i) => el("td", { class: headings[i][1] ? "num" : headings[i][2] ? "mono" : "" }, text)))))]);
  }

  const unfolded = new Set();
  function showConnections() {
    const { peers, connections: all, longest, count: number } = connections;
    $("conn-count").textContent = "(" + number + (all.length < 200 && all.length === number ? ")" : ", the first " + Math.min(200, all.length) + ")");
    $("peers").replaceChildren(peers.length ? table([["address", 0, 1], ["connections", 1], ["leased", 1], ["idle", 1], ["connecting", 1], ["leases", 1], ["slowest rtt", 1], ["retransmits", 1]],
      peers.map(p => [p.peer === null ? "not connected yet" : p.peer, count(p.total), count(p.leased), count(p.idle + p.checked), count(p.connecting), count(p.uses), us(p.rtt_us), count(p.retransmits)]))
      : el("p", { class: "muted" }, "None."));
    $("conns").replaceChildren(all.length ? table([["slot", 1], ["state"], ["peer", 0, 1], ["age", 1], ["idle", 1], ["leases", 1], ["owner", 0, 1], ["held", 1], ["rtt", 1], ["retransmits", 1]],
      all.slice(0, 200).map(c => [c.slot, c.state, c.peer === null ? "–" : c.peer, ms(c.age_ms), ms(c.idle_ms), count(c.uses), c.owner === null ? "–" : c.owner, ms(c.held_ms), us(c.rtt_us), count(c.retransmits)]))
      : el("p", { class: "muted" }, "None."));
    if (!longest.length) { $("longest").replaceChildren(el("p", { class: "muted" }, "Nobody has a connection just now.")); return; }
    $("longest").replaceChildren(...longest.map(l => {
      const id = l.slot + l.owner;
      const node = el("details", { open: unfolded.has(id) }, [
        el("summary", {}, [el("b", {}, ms(l.held_ms)), " by ", el("code", {}, l.owner), l.name ? " (" + l.name + ")" : "", " – connection " + l.slot + (l.peer ? " to " + l.peer : "")]),
        el("pre", {}, l.stack.length ? l.stack.join("\n") : "Its stack is not to be had here.")]);
      node.addEventListener("toggle", () => { if (node.open) unfolded.add(id); else unfolded.delete(id); });
      return node;
    }));
  }

  /* ---- events ---- */

  function showEvents() {
    const box = $("events");
    if (!events.length) { box.replaceChildren(el("li", {}, el("span", { class: "muted" }, "None so far."))); return; }
    box.replaceChildren(...events.slice(0, 200).map(e => el("li", {}, [el("time", { datetime: new Date(e.at).toISOString() }, clock(e.at)), severity(e.severity),
      e.pool === null ? el("span", {}, "–") : rows.has(e.pool) ? el("span", {}, el("button", { class: "link", onclick: () => open(e.pool) }, e.pool)) : el("span", {}, e.pool),
      el("span", {}, [el("b", {}, e.event.replace(/^sockpool\./, "")), " " + said(e)])])));
  }
  const said = e => Object.entries(Object.assign({}, e.metadata, e.measurements)).filter(([, v]) => v !== null && !Array.isArray(v))
    .map(([key, v]) => key.replaceAll("_", " ") + " " + v).join(", ");

  /* ---- asking ---- */

  const every = () => Number($("every").value);

  async function refresh() {
    if (asked) return;
    asked = true;
    clearTimeout(again);
    try {
      const [pools, one, conns, some] = await Promise.all([get("api/pools?since=" + number),
        opened === null ? null : get("api/pools/" + encodeURIComponent(opened)),
        opened === null ? null : get("api/connections/" + encodeURIComponent(opened)),
        get("api/events?severity=" + $("severity").value + "&since=" + lastEvent)]);
      if (pools.all) rows.clear();
      for (const row of pools.rows) rows.set(row.name, row);
      number = pools.number; skew = pools.now - Date.now();
      $("node").textContent = pools.node;
      showVerdict(pools.verdict || [], pools.count);
      arrange();
      if (opened !== null && one !== null && one.row.name === opened) { detail = one; showDetail(); }
      else if (opened !== null && one === null && !rows.has(opened)) $("detail-state").replaceChildren(el("span", { class: "sev error" }, [mark("error"), "this pool is gone"]));
      if (opened !== null && conns !== null) { connections = conns; showConnections(); }
      if (some !== null) {
        events = some.events.slice().reverse().concat(events).slice(0, 1000);
        if (events.length) lastEvent = Math.max(lastEvent, events[0].id);
        $("dropped").textContent = some.dropped ? "(" + count(some.dropped) + " dropped)" : "";
        if (some.events.length || !$("events").hasChildNodes()) showEvents();
      }
      failed = false;
    } catch (error) {
      failed = true;
    }
    asked = false;
    status();
    document.documentElement.dataset.looks = String(1 + Number(document.documentElement.dataset.looks || 0));
    plan();
  }

  function status() {
    const node = $("status");
    node.className = failed ? "bad" : "";
    node.textContent = failed ? "✕ no answer from the node" : every() === 0 ? "❚❚ paused" : "at " + clock(Date.now() + skew);
  }

  function plan() {
    clearTimeout(again);
    if (every() > 0 && !document.hidden) again = setTimeout(refresh, every() * 1000);
  }

  /* ---- what the user does ---- */

  function theme(name) {
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
  }

  function key(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { if (typing && $("search").value) { $("search").value = ""; arrange(); } else if (opened !== null) close(); else event.target.blur(); return; }
    if (event.target === $("search") && event.key === "ArrowDown") { choose(1); $("pools").focus(); event.preventDefault(); return; }
    if (typing) return;
    if (event.key === "/") { $("search").focus(); event.preventDefault(); }
    else if (event.key === "p") { $("every").value = every() ? "0" : "1"; status(); refresh(); }
    else if (document.activeElement === $("pools") || document.activeElement === document.body) {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[event.key];
      if (step && (document.activeElement === $("pools") || Math.abs(step) === 1)) { $("pools").focus(); choose(step); event.preventDefault(); }
      else if (event.key === "Enter" && chosen !== null) open(chosen);
    }
  }

  function begin() {
    document.body.prepend(svg("svg", { width: 0, height: 0, "aria-hidden": "true", class: "hidden" }, svg("defs", {}, svg("pattern",
      { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      [svg("rect", { width: 6, height: 6, fill: "var(--track)" }), svg("rect", { width: 3, height: 6, fill: "var(--connecting)" })]))));
    $("legend").replaceChildren(...keys([["leased", "leased"], ["idle", "idle"], ["connecting", "connecting"], ["size", "size"], ["peak", "most leased in a minute"]]));
    const query = new URLSearchParams(location.search);
    $("theme").value = query.get("theme") || stored("theme") || "";
    theme($("theme").value);
    $("theme").addEventListener("change", () => { theme($("theme").value); store("theme", $("theme").value); });
    $("every").value = ["0", "1", "5", "15"].includes(stored("every")) ? stored("every") : "1";
    $("every").addEventListener("change", () => { store("every", $("every").value); status(); refresh(); });
    $("severity").addEventListener("change", () => { events = []; lastEvent = 0; $("events").replaceChildren(); refresh(); });
    $("search").addEventListener("input", arrange);
    $("pools").addEventListener("scroll", draw, { passive: true });
    $("close").addEventListener("click", close);
    for (const id of ["short", "long"]) $(id).addEventListener("click", () => {
      range = id;
      for (const other of ["short", "long"]) $(other).setAttribute("aria-pressed", String(other === id));
      if (detail) showDetail();
    });
    document.addEventListener("keydown", key);
    document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(again); else refresh(); });
    window.addEventListener("resize", draw);
    head();
    if (location.hash.length > 1) try { open(decodeURIComponent(location.hash.slice(1))); } catch (_) { /* no name */ }
    refresh();
  }

  begin();
})();
