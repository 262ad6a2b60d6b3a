// Click seeks, and a line shows what moment the player is at. Delegated: the elements come and go with the results.
(() => {
  const video = (name) => document.querySelector(`video[data-video="${CSS.escape(name)}"]`);
  const seek = (name, seconds) => {
    const player = video(name);
    if (player && Number.isFinite(seconds)) player.currentTime = Math.max(seconds, 0);
  };
  const share = (event, element) => {
    const box = element.getBoundingClientRect();
    const within = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1 - 1e-9);
    return [within(event.clientX, box.left, box.width), within(event.clientY, box.top, box.height)];
  };

  document.addEventListener("click", (event) => {
    const line = event.target.closest(".qv-timeline");
    if (line && event.detail) {
      // With the mouse: the moment under it. With the keyboard (detail 0): where the segment begins.
      const [start, stop] = [Number(line.dataset.start), Number(line.dataset.stop)];
      seek(line.dataset.player, start + share(event, line)[0] * (stop - start));
      return;
    }
    const button = event.target.closest("[data-seek]");
    if (button) {
      seek(button.closest("[data-player]").dataset.player, Number(button.dataset.seek));
      return;
    }
    const matrix = event.target.closest(".qv-matrix img");
    if (matrix) {
      const [x, y] = share(event, matrix);
      const [rows, columns] = [JSON.parse(matrix.dataset.rows), JSON.parse(matrix.dataset.columns)];
      seek("features-first", rows[Math.floor(y * rows.length)]);
      seek("features-second", columns[Math.floor(x * columns.length)]);
    }
  });

  const show = (event) => {
    const name = event.target.dataset && event.target.dataset.video;
    if (!name) return;
    for (const line of document.querySelectorAll(`.qv-timeline[data-player="${CSS.escape(name)}"]`)) {
      const [start, stop] = [Number(line.dataset.start), Number(line.dataset.stop)];
      const at = Math.min(Math.max((event.target.currentTime - start) / (stop - start), 0), 1);
      line.querySelector(".qv-now").style.left = `${100 * at}%`;
    }
  };
  for (const kind of ["timeupdate", "seeking", "seeked"]) document.addEventListener(kind, show, true);
})();
