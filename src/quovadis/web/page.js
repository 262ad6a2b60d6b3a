// Seek on click, show the current time of the player in timelines, draw activation maps over the player, sort tables,
// and record with the camera. Listeners are on the document because the elements are replaced with each result.
(() => {
  const video = (name) => document.querySelector(`video[data-video="${CSS.escape(name)}"]`);
  const seek = (name, seconds) => {
    const player = video(name);
    if (player && Number.isFinite(seconds)) player.currentTime = Math.max(seconds, 0);
  };
  const relativePosition = (event, element) => {
    const box = element.getBoundingClientRect();
    const within = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1 - 1e-9);
    return [within(event.clientX, box.left, box.width), within(event.clientY, box.top, box.height)];
  };

  const sort = (head, isNumber) => {
    const descending = head.ariaSort === "ascending" || (head.ariaSort === "none" && isNumber);
    for (const other of head.parentElement.children) other.ariaSort = "none";
    head.ariaSort = descending ? "descending" : "ascending";
    const body = head.closest("table").tBodies[0];
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return isNumber ? Number(cell?.dataset.value ?? -1) : cell?.textContent ?? "";
    };
    const compare = (a, b) => (isNumber ? key(a) - key(b) : key(a).localeCompare(key(b)));
    body.append(...[...body.rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b))));
  };

  const record = async (button) => {
    const status = button.nextElementSibling;
    button.disabled = true;
    try {
      if (!navigator.mediaDevices) throw new Error("browsers allow the camera only on localhost and with https");
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
      const recorder = new MediaRecorder(stream);
      const parts = [];
      recorder.ondataavailable = (event) => parts.push(event.data);
      const stopped = new Promise((resolve) => (recorder.onstop = resolve));
      recorder.start();
      for (let rest = 5; rest > 0; rest--) {
        status.textContent = `recording, ${rest} s`;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      recorder.stop();
      await stopped;
      for (const track of stream.getTracks()) track.stop();
      const type = recorder.mimeType.split(";")[0];
      const file = new File(parts, `camera.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type });
      const clear = document.querySelector(`#${button.dataset.record} [aria-label=Clear]`);
      if (clear) clear.click();
      const find = () => document.querySelector(`#${button.dataset.record} input[type=file]`);
      while (!find()) await new Promise((resolve) => setTimeout(resolve, 50));
      const files = new DataTransfer();
      files.items.add(file);
      find().files = files.files;
      find().dispatchEvent(new Event("change", { bubbles: true }));
      status.textContent = "";
    } catch (error) {
      status.textContent = `no camera: ${error.message}`;
    }
    button.disabled = false;
  };

  // Activation maps: all maps of a class are in one image, in reading order. Each is drawn smoothed over the square
  // of the frame that the network processes, and blended with the next one by time.
  const scratch = document.createElement("canvas");
  const drawMaps = (player) => {
    const canvas = player.parentElement.querySelector(".qv-overlay");
    const maps = document.querySelector(`.qv-maps[data-player="${CSS.escape(player.dataset.video)}"]`);
    const image = maps && maps.querySelectorAll("img")[maps.querySelector("select").value];
    const isOn = maps && maps.querySelector("input").checked && image.complete && player.videoWidth;
    canvas.classList.toggle("qv-on", Boolean(isOn));
    if (!isOn) return;
    const [width, height] = [player.videoWidth, player.videoHeight];
    const scale = Math.min(player.clientWidth / width, player.clientHeight / height);
    const side = Number(maps.dataset.side) * Math.min(width, height) * scale;
    Object.assign(canvas.style, {
      width: `${side}px`,
      height: `${side}px`,
      left: `${(player.clientWidth - side) / 2}px`,
      top: `${(player.clientHeight - side) / 2}px`,
    });
    const seconds = JSON.parse(maps.dataset.seconds);
    const next = seconds.findIndex((s) => s > player.currentTime);
    const after = next < 0 ? seconds.length - 1 : next;
    const before = next < 0 ? after : Math.max(after - 1, 0);
    const gap = seconds[after] - seconds[before];
    const fraction = gap ? (player.currentTime - seconds[before]) / gap : 0;
    const [columns, [w, h]] = [Number(maps.dataset.columns), maps.dataset.cell.split(" ").map(Number)];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const [step, weight] of [[before, 1 - fraction], [after, fraction]]) {
      [scratch.width, scratch.height] = [w, h];
      scratch.getContext("2d").drawImage(image, -w * (step % columns), -h * Math.floor(step / columns));
      context.globalAlpha = weight;
      context.globalCompositeOperation = "lighter";
      context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
    }
    canvas.dataset.seconds = player.currentTime.toFixed(3);
  };
  let scheduled = false;
  const drawAll = () => {
    scheduled = false;
    for (const player of document.querySelectorAll("video[data-video]")) {
      drawMaps(player);
      if (!player.paused) schedule();
    }
  };
  const schedule = () => {
    if (!scheduled) requestAnimationFrame(drawAll);
    scheduled = true;
  };
  for (const kind of ["change", "play", "seeked", "loadeddata"]) document.addEventListener(kind, schedule, true);
  window.addEventListener("resize", schedule);
  new MutationObserver(schedule).observe(document, { childList: true, subtree: true });

  document.addEventListener("click", (event) => {
    const line = event.target.closest(".qv-timeline");
    if (line && event.detail) {
      // A mouse click seeks to its position; a key press (detail 0) seeks to the start of the segment.
      const [start, stop] = [Number(line.dataset.start), Number(line.dataset.stop)];
      seek(line.dataset.player, start + relativePosition(event, line)[0] * (stop - start));
      return;
    }
    const sorter = event.target.closest("[data-sort]");
    if (sorter) {
      sort(sorter.closest("th"), sorter.dataset.sort === "number");
      return;
    }
    const recorder = event.target.closest("[data-record]");
    if (recorder) {
      record(recorder);
      return;
    }
    const button = event.target.closest("[data-seek]");
    if (button) {
      seek(button.closest("[data-player]").dataset.player, Number(button.dataset.seek));
      return;
    }
    const matrix = event.target.closest(".qv-matrix img");
    if (matrix) {
      const [x, y] = relativePosition(event, matrix);
      const [rows, columns] = [JSON.parse(matrix.dataset.rows), JSON.parse(matrix.dataset.columns)];
      seek("features-first", rows[Math.floor(y * rows.length)]);
      seek("features-second", columns[Math.floor(x * columns.length)]);
    }
  });

  const showTime = (event) => {
    const name = event.target.dataset && event.target.dataset.video;
    if (!name) return;
    for (const line of document.querySelectorAll(`.qv-timeline[data-player="${CSS.escape(name)}"]`)) {
      const [start, stop] = [Number(line.dataset.start), Number(line.dataset.stop)];
      const at = Math.min(Math.max((event.target.currentTime - start) / (stop - start), 0), 1);
      line.querySelector(".qv-now").style.left = `${100 * at}%`;
    }
  };
  for (const kind of ["timeupdate", "seeking", "seeked"]) document.addEventListener(kind, showTime, true);
})();
