// Seek on click, and show the current time of the player in timelines. Listeners are on the document because the
// elements are replaced with each result.
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

  document.addEventListener("click", (event) => {
    const line = event.target.closest(".qv-timeline");
    if (line && event.detail) {
      // A mouse click seeks to its position; a key press (detail 0) seeks to the start of the segment.
      const [start, stop] = [Number(line.dataset.start), Number(line.dataset.stop)];
      seek(line.dataset.player, start + relativePosition(event, line)[0] * (stop - start));
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
