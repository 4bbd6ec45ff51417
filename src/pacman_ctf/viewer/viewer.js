// A match of capture the flag in the browser: the rules, and a player on a canvas. One file, no dependencies.
//
//   pacmanCtf.play(replay)            all states of a replay, by the same rules as the Python engine
//   pacmanCtf.mount(element, replay)  the player; the address's #move=n is where it starts
(function (root) {
  "use strict";

  // ------------------------------------------------------------------ rules

  const VECTORS = { N: [0, 1], S: [0, -1], E: [1, 0], W: [-1, 0], ".": [0, 0] };
  const SCARED_TIME = 40, MIN_FOOD = 2, TIME_LIMIT = 1200;

  function parse(text) {
    const rows = text.trim().split("\n").map((row) => row.trim());
    const width = rows[0].length, height = rows.length;
    const wall = new Uint8Array(width * height), food = new Uint8Array(width * height);
    const capsules = new Uint8Array(width * height), starts = [];
    rows.forEach((row, line) => [...row].forEach((mark, x) => {
      const cell = x * height + (height - 1 - line);
      if (mark === "%") wall[cell] = 1;
      else if (mark === ".") food[cell] = 1;
      else if (mark === "o") capsules[cell] = 1;
      else if ("1234".includes(mark)) starts.push([Number(mark), cell]);
      else if ("PG".includes(mark)) starts.push([" PG".indexOf(mark), cell]);
    }));
    starts.sort((a, b) => a[0] - b[0]);
    const half = Math.floor(width / 2) * height;
    return {
      width, height, wall, food, capsules, half,
      starts: starts.map((start) => start[1]),
      red: starts.map((start) => start[1] < half),
      total: food.reduce((sum, dot) => sum + dot, 0),
      x: (cell) => Math.floor(cell / height),
      y: (cell) => cell % height,
    };
  }

  function begin(maze, length) {
    const zeros = maze.starts.map(() => 0);
    return {
      food: maze.food, capsules: maze.capsules, cells: [...maze.starts], facing: zeros.map(() => "."),
      pacman: zeros.map(() => false), scared: zeros, carried: zeros, returned: zeros,
      score: 0, left: length, over: false, agent: -1, died: [], ate: false, capsule: false,
    };
  }

  function step(maze, before, agent, letter) {
    const vector = VECTORS[letter];
    if (!vector) throw new Error(`there is no action ${letter}`);
    const there = before.cells[agent] + vector[0] * maze.height + vector[1];
    if (maze.wall[there]) throw new Error(`agent ${agent} cannot go ${letter}`);
    const now = { ...before, left: before.left - 1, agent, died: [], ate: false, capsule: false };
    for (const part of ["cells", "facing", "pacman", "scared", "carried", "returned"]) now[part] = [...before[part]];
    const red = maze.red[agent], others = [];
    maze.red.forEach((side, who) => { if (side !== red) others.push(who); });

    now.cells[agent] = there;
    if (letter !== ".") now.facing[agent] = letter;
    now.pacman[agent] = red !== there < maze.half;
    if (now.pacman[agent]) eat(maze, now, agent, others);
    else if (now.carried[agent]) deliver(maze, now, agent);
    for (const who of others) {
      if (now.pacman[who] === now.pacman[agent] || now.cells[who] !== now.cells[agent]) continue;
      const [ghost, prey] = now.pacman[agent] ? [who, agent] : [agent, who];
      die(maze, now, now.scared[ghost] ? ghost : prey);
    }
    if (now.scared[agent]) now.scared[agent] -= 1;
    return now;
  }

  function eat(maze, now, agent, others) {
    const cell = now.cells[agent];
    if (now.food[cell]) {
      now.food = now.food.slice();
      now.food[cell] = 0;
      now.carried[now.cells.findIndex((place, who) => place === cell && maze.red[who] === maze.red[agent])] += 1;
      now.ate = true;
    }
    if (now.capsules[cell]) {
      now.capsules = now.capsules.slice();
      now.capsules[cell] = 0;
      for (const who of others) now.scared[who] = SCARED_TIME;
      now.capsule = true;
    }
  }

  function deliver(maze, now, agent) {
    const dots = now.carried[agent];
    now.score += maze.red[agent] ? dots : -dots;
    now.returned[agent] += dots;
    now.carried[agent] = 0;
    for (const side of [true, false]) {
      const home = now.returned.reduce((sum, count, who) => sum + (maze.red[who] === side ? count : 0), 0);
      if (2 * (home + MIN_FOOD) >= maze.total) now.over = true;
    }
  }

  function die(maze, now, who) {
    if (now.carried[who]) spill(maze, now, now.cells[who], now.carried[who]);
    now.carried[who] = 0;
    now.cells[who] = maze.starts[who];
    now.facing[who] = ".";
    now.pacman[who] = false;
    now.scared[who] = 0;
    now.died.push(who);
  }

  function spill(maze, now, start, count) {
    const food = (now.food = now.food.slice()), before = food.slice();
    const taken = new Set(now.cells), seen = new Set([start]), queue = [start];
    for (let next = 0; next < queue.length && count; next += 1) {
      const cell = queue[next], x = maze.x(cell), y = maze.y(cell);
      const free = !maze.wall[cell] && !before[cell] && !now.capsules[cell] && !taken.has(cell);
      if (free && cell < maze.half === start < maze.half) { food[cell] = 1; count -= 1; }
      for (let dx = -1; dx <= 1; dx += 1) {
        for (let dy = -1; dy <= 1; dy += 1) {
          const a = x + dx, b = y + dy, near = a * maze.height + b;
          if (a > 0 && b > 0 && a < maze.width && b < maze.height && !seen.has(near)) { seen.add(near); queue.push(near); }
        }
      }
    }
  }

  function play(replay) {
    const maze = parse(replay.layout);
    const states = [begin(maze, replay.length || TIME_LIMIT)];
    [...replay.moves].forEach((letter, number) => {
      const last = states[states.length - 1];
      if (last.over || !last.left) throw new Error(`move ${number} comes after the end of the game`);
      states.push(step(maze, last, (replay.first + number) % maze.starts.length, letter));
    });
    return { maze, states };
  }

  // One line per state, the same in Python and here: what the shared test vectors compare.
  function line(state) {
    const bits = (mask) => mask.reduce((found, set, cell) => (set ? [...found, cell] : found), []).join(",");
    return [
      state.cells.join(","), state.pacman.map(Number).join(","), state.scared.join(","), state.carried.join(","),
      state.returned.join(","), state.score, state.left, Number(state.over), bits(state.food), bits(state.capsules),
    ].join(";");
  }

  // ---------------------------------------------------------------- drawing

  const COLORS = {
    night: "#0d1020", food: "#f6e2b4", capsule: "#ffb84c", pale: "#d6dceb", pupil: "#14183c",
    red: "#ff5c5c", blue: "#5ca4ff", redWall: "#7a2e3c", blueWall: "#2c4a80", redCore: "#421622", blueCore: "#142446",
  };
  const TURN = { E: 0, S: 0.5, W: 1, N: 1.5, ".": 0 };

  function drawWalls(pen, maze, size) {
    const centre = (cell) => [(maze.x(cell) + 0.5) * size, (maze.height - 0.5 - maze.y(cell)) * size];
    pen.lineCap = pen.lineJoin = "round";
    for (const [thick, names] of [[0.56, ["redWall", "blueWall"]], [0.3, ["redCore", "blueCore"]]]) {
      for (const side of [0, 1]) {
        pen.beginPath();
        for (let cell = 0; cell < maze.wall.length; cell += 1) {
          if (!maze.wall[cell] || (cell >= maze.half) !== Boolean(side)) continue;
          const [x, y] = centre(cell), top = maze.y(cell) === maze.height - 1;
          pen.moveTo(x, y);
          pen.lineTo(x, y);
          if (maze.wall[cell + maze.height]) { pen.moveTo(x, y); pen.lineTo(...centre(cell + maze.height)); }
          if (!top && maze.wall[cell + 1]) { pen.moveTo(x, y); pen.lineTo(...centre(cell + 1)); }
        }
        pen.strokeStyle = COLORS[names[side]];
        pen.lineWidth = thick * size;
        pen.stroke();
      }
    }
  }

  function disc(pen, x, y, radius, color) {
    pen.fillStyle = color;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }

  function drawPacman(pen, x, y, radius, color, facing, phase) {
    const mouth = 0.05 + 0.17 * Math.abs(Math.sin(phase * Math.PI)), turn = TURN[facing] * Math.PI;
    pen.fillStyle = color;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.arc(x, y, radius, turn + mouth * Math.PI, turn + (2 - mouth) * Math.PI);
    pen.fill();
  }

  function drawGhost(pen, x, y, radius, color, facing, scared) {
    const hem = radius * 0.3, bottom = y + radius;
    pen.fillStyle = scared ? COLORS.pale : color;
    pen.beginPath();
    pen.arc(x, y - radius * 0.05, radius, Math.PI, 0);
    pen.lineTo(x + radius, bottom - hem / 2);
    for (let wave = 0; wave < 3; wave += 1) {
      const right = x + radius - (wave * 2 * radius) / 3;
      pen.quadraticCurveTo(right - radius / 6, bottom + hem, right - radius / 3, bottom - hem / 2);
      pen.quadraticCurveTo(right - radius / 2, bottom - hem, right - (2 * radius) / 3, bottom - hem / 2);
    }
    pen.fill();
    const [dx, dy] = VECTORS[facing];
    for (const side of [-1, 1]) {
      const eye = [x + side * radius * 0.4, y - radius * 0.2];
      disc(pen, ...eye, radius * 0.27, scared ? color : "#fff");
      disc(pen, eye[0] + dx * radius * 0.13, eye[1] - dy * radius * 0.13, radius * 0.13, scared ? "#fff" : COLORS.pupil);
    }
  }

  function drawState(pen, maze, size, before, state, part) {
    const place = (cell) => [(maze.x(cell) + 0.5) * size, (maze.height - 0.5 - maze.y(cell)) * size];
    for (let cell = 0; cell < state.food.length; cell += 1) {
      if (state.food[cell]) disc(pen, ...place(cell), size * 0.12, COLORS.food);
      if (state.capsules[cell]) disc(pen, ...place(cell), size * 0.28, COLORS.capsule);
    }
    state.cells.forEach((cell, agent) => {
      let [x, y] = place(cell);
      const [fromX, fromY] = place(before.cells[agent]);
      if (Math.abs(x - fromX) + Math.abs(y - fromY) < 1.5 * size) { x = fromX + (x - fromX) * part; y = fromY + (y - fromY) * part; }
      const color = maze.red[agent] ? COLORS.red : COLORS.blue, radius = size * 0.42;
      if (state.pacman[agent]) drawPacman(pen, x, y, radius, color, state.facing[agent], maze.x(cell) + maze.y(cell) + part + 0.4);
      else drawGhost(pen, x, y, radius, color, state.facing[agent], state.scared[agent] > 0);
      if (state.carried[agent]) badge(pen, x + radius * 0.8, y - radius * 0.8, size, state.carried[agent]);
    });
  }

  function badge(pen, x, y, size, count) {
    disc(pen, x, y, size * 0.27, COLORS.food);
    pen.fillStyle = COLORS.night;
    pen.font = `bold ${Math.round(size * 0.4)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(String(count), x, y + size * 0.03);
  }

  // ----------------------------------------------------------------- player

  const STYLE = `
.pctf{--night:#0d1020;--panel:#161b33;--line:#2a3158;--dim:#8b94b3;--red:#ff5c5c;--blue:#5ca4ff;color:#e8ecf8;
background:var(--night);font:14px/1.4 system-ui,sans-serif;padding:12px;border-radius:10px;max-width:1080px;margin:auto}
.pctf header{display:flex;align-items:baseline;gap:12px;margin:0 4px 8px}.pctf header b{font-size:17px;flex:1;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}.pctf header b:last-child{text-align:right}.pctf .r{color:var(--red)}
.pctf .b{color:var(--blue)}.pctf .score{font-size:26px;font-weight:700;font-variant-numeric:tabular-nums}
.pctf canvas{display:block;width:100%;border-radius:6px}.pctf .track{height:64px;margin-top:8px;cursor:pointer;touch-action:none}
.pctf nav{display:flex;flex-wrap:wrap;gap:6px;align-items:center;margin:8px 0}.pctf button,.pctf select{background:var(--panel);
color:inherit;border:1px solid var(--line);border-radius:6px;padding:5px 11px;font:inherit;cursor:pointer}
.pctf button:hover,.pctf select:hover{border-color:var(--dim)}.pctf button:focus-visible,.pctf select:focus-visible,
.pctf .track:focus-visible{outline:2px solid var(--blue)}.pctf .where{margin-left:auto;color:var(--dim);font-variant-numeric:tabular-nums}
.pctf .agents{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:8px}.pctf .card{background:var(--panel);
border-left:3px solid;border-radius:6px;padding:6px 10px;font-variant-numeric:tabular-nums}.pctf .card p{margin:2px 0 0;color:var(--dim)}
.pctf .card i{font-style:normal;color:#e8ecf8}.pctf .end{margin:8px 4px 0;color:var(--dim)}`;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function mount(element, replay) {
    const { maze, states } = play(replay);
    const last = states.length - 1;
    const deaths = [maze.starts.map(() => 0)];
    states.slice(1).forEach((state) => {
      deaths.push(deaths[deaths.length - 1].map((count, agent) => count + state.died.includes(agent)));
    });
    let move = 0, playing = false, speed = 20, part = 1, frame = 0, clock = 0;

    const box = make("div", "pctf");
    box.append(make("style", "", STYLE));
    const header = make("header"), score = make("span", "score", "0");
    header.append(make("b", "r", replay.red), score, make("b", "b", replay.blue));
    const board = make("canvas"), track = make("canvas", "track"), nav = make("nav"), cards = make("div", "agents");
    board.setAttribute("role", "img");
    board.setAttribute("aria-label", `Pacman capture the flag: ${replay.red} against ${replay.blue}`);
    track.tabIndex = 0;
    track.setAttribute("role", "slider");
    track.setAttribute("aria-label", "move");
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", String(last));
    const button = (label, title, act) => {
      const made = make("button", "", label);
      made.title = title;
      made.setAttribute("aria-label", title);
      made.onclick = act;
      nav.append(made);
      return made;
    };
    button("«", "to the start (Home)", () => go(0));
    button("−1", "one move back (←)", () => go(move - 1));
    const toggle = button("▶ play", "play or pause (space)", () => run(!playing));
    button("+1", "one move on (→)", () => go(move + 1));
    button("»", "to the end (End)", () => go(last));
    const pace = make("select");
    pace.setAttribute("aria-label", "speed");
    for (const moves of [4, 10, 20, 50, 100, 300]) {
      const choice = make("option", "", `${moves} moves/s`);
      choice.value = String(moves);
      choice.selected = moves === speed;
      pace.append(choice);
    }
    pace.onchange = () => { speed = Number(pace.value); };
    nav.append(pace);
    const link = button("link", "copy a link to this move", () => {
      root.history.replaceState(null, "", `#move=${move}`);
      if (root.navigator.clipboard) root.navigator.clipboard.writeText(root.location.href).catch(() => {});
      link.textContent = "link copied";
      root.setTimeout(() => { link.textContent = "link"; }, 1200);
    });
    const where = make("span", "where");
    nav.append(where);
    const facts = maze.starts.map((_, agent) => {
      const card = make("div", "card"), line = make("p");
      card.style.borderColor = `var(--${maze.red[agent] ? "red" : "blue"})`;
      card.append(make("strong", maze.red[agent] ? "r" : "b", `agent ${agent + 1}`), line);
      cards.append(card);
      return line;
    });
    const outcome = replay.code === "score" ? `${replay.winner === "tie" ? "a tie" : `${replay.winner} wins`} after ${last} moves`
      : `${replay.winner === "tie" ? "a tie" : `${replay.winner} wins`}: ${replay.blame} – ${replay.code} after ${last} moves`;
    box.append(header, board, track, nav, cards, make("p", "end", outcome));
    element.replaceChildren(box);

    const walls = document.createElement("canvas");
    let size = 0;
    function fit() {
      const ratio = root.devicePixelRatio || 1, width = Math.max(240, board.clientWidth || 640);
      size = Math.max(4, Math.floor((width * ratio) / maze.width));
      for (const canvas of [board, walls]) { canvas.width = size * maze.width; canvas.height = size * maze.height; }
      track.width = Math.max(240, track.clientWidth || 640) * ratio;
      track.height = 64 * ratio;
      const pen = walls.getContext("2d");
      pen.fillStyle = COLORS.night;
      pen.fillRect(0, 0, walls.width, walls.height);
      drawWalls(pen, maze, size);
      draw();
    }

    function draw() {
      const state = states[move], pen = board.getContext("2d");
      pen.drawImage(walls, 0, 0);
      drawState(pen, maze, size, states[Math.max(0, move - 1)], state, part);
      drawTrack();
      score.textContent = state.score > 0 ? `+${state.score}` : String(state.score).replace("-", "−");
      score.className = `score ${state.score > 0 ? "r" : state.score < 0 ? "b" : ""}`;
      where.textContent = `move ${move} of ${last}`;
      track.setAttribute("aria-valuenow", String(move));
      facts.forEach((line, agent) => {
        line.replaceChildren("carries ", make("i", "", state.carried[agent]), " · home ", make("i", "", state.returned[agent]),
          " · died ", make("i", "", deaths[move][agent]));
        if (state.scared[agent]) line.append(" · scared ", make("i", "", state.scared[agent]));
      });
    }

    // The score over time, and what happened when.
    function drawTrack() {
      const pen = track.getContext("2d"), width = track.width, height = track.height, middle = height / 2;
      const top = Math.max(1, ...states.map((state) => Math.abs(state.score)));
      const x = (number) => (last ? (number / last) * (width - 4) : 0) + 2, y = (value) => middle - (value / top) * (middle - 8);
      pen.fillStyle = "#161b33";
      pen.fillRect(0, 0, width, height);
      for (const [sign, color] of [[1, "rgba(255,92,92,.45)"], [-1, "rgba(92,164,255,.45)"]]) {
        pen.fillStyle = color;
        pen.beginPath();
        pen.moveTo(x(0), middle);
        states.forEach((state, number) => {
          pen.lineTo(x(number), y(sign * Math.max(0, sign * (number ? states[number - 1].score : 0))));
          pen.lineTo(x(number), y(sign * Math.max(0, sign * state.score)));
        });
        pen.lineTo(x(last), middle);
        pen.fill();
      }
      pen.fillStyle = "#2a3158";
      pen.fillRect(0, middle - 0.5, width, 1);
      states.forEach((state, number) => {
        for (const agent of state.died) {
          pen.fillStyle = maze.red[agent] ? COLORS.red : COLORS.blue;
          pen.fillRect(x(number) - 1, maze.red[agent] ? 0 : height - 6, 2, 6);
        }
        if (state.capsule) disc(pen, x(number), maze.red[state.agent] ? 10 : height - 10, 3, COLORS.capsule);
      });
      pen.fillStyle = "#fff";
      pen.fillRect(x(move) - 1, 0, 2, height);
    }

    function go(number) {
      move = Math.min(last, Math.max(0, number));
      part = 1;
      if (move === last && playing) run(false);
      draw();
    }

    function run(on) {
      if (on && move === last) move = 0;
      playing = on;
      toggle.textContent = on ? "⏸ pause" : "▶ play";
      root.cancelAnimationFrame(frame);
      if (on) { clock = 0; frame = root.requestAnimationFrame(tick); }
    }

    function tick(now) {
      const moves = clock ? Math.min(0.25, (now - clock) / 1000) * speed : 0;
      clock = now;
      part += moves;
      while (part >= 1 && move < last) { move += 1; part -= 1; }
      if (move === last && part >= 1) { part = 1; draw(); run(false); return; }
      draw();
      if (playing) frame = root.requestAnimationFrame(tick);
    }

    const seek = (event) => {
      const area = track.getBoundingClientRect();
      go(Math.round(((event.clientX - area.left) / area.width) * last));
    };
    track.onpointerdown = (event) => { track.setPointerCapture(event.pointerId); seek(event); };
    track.onpointermove = (event) => { if (event.buttons) seek(event); };
    box.tabIndex = -1;
    box.onkeydown = (event) => {
      const far = event.shiftKey ? 20 : 1;
      const keys = {
        " ": () => run(!playing), ArrowLeft: () => go(move - far), ArrowRight: () => go(move + far), Home: () => go(0), End: () => go(last),
      };
      if (!keys[event.key] || event.target === pace) return;
      event.preventDefault();
      keys[event.key]();
    };
    const linked = () => { const found = /move=(\d+)/.exec(root.location.hash); if (found) go(Number(found[1])); };
    root.addEventListener("hashchange", linked);
    root.addEventListener("resize", fit);
    fit();
    linked();
    return { go, run, get move() { return move; }, get playing() { return playing; }, states, maze };
  }

  root.pacmanCtf = { parse, begin, step, play, line, mount };
  if (typeof module !== "undefined") module.exports = root.pacmanCtf;
})(typeof window === "undefined" ? globalThis : window);
