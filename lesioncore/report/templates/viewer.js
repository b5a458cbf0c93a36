"use strict";

// The viewer: scan and score in three planes, drawn by NiiVue, which the page carries with it.
(async () => {
  const read = (id) => document.getElementById(id).textContent.trim();
  const facts = JSON.parse(read("viewer-facts"));
  const element = (id) => document.getElementById(id);

  const library = async () => {
    const packed = Uint8Array.from(atob(read("niivue")), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.niivue;
  };

  const start = async () => {
    const { Niivue, NVImage } = await library();
    const viewer = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.34, 0.71, 0.91, 0.8], crosshairWidth: 1, isRadiologicalConvention: false,
      multiplanarShowRender: 1, multiplanarLayout: 2, show3Dcrosshair: true, isColorbar: false, logLevel: "error", loadingText: "",
      dragAndDropEnabled: false, showAllOrientationMarkers: true, multiplanarPadPixels: 24, fontColor: [1, 0.85, 0.3, 1],
    });
    await viewer.attachTo("canvas");
    viewer.addColormap("deviation", facts.colormap);
    const load = (id, options) => NVImage.loadFromBase64({ base64: read(id), name: id + ".nii.gz", ...options });
    viewer.addVolume(await load("scan", { colormap: "gray", cal_min: facts.window[0], cal_max: facts.window[1] }));
    const score = await load("score", {
      colormap: "deviation", opacity: 0.5, cal_min: facts.threshold, cal_max: facts.maximum,
    });
    viewer.addVolume(score);
    viewer.setSliceType(viewer.sliceTypeMultiplanar);

    const show = () => {
      const threshold = Number(element("threshold").value);
      score.cal_min = threshold;
      score.cal_max = Math.max(facts.maximum, threshold + 0.01);
      score.opacity = Number(element("opacity").value);
      viewer.overlayOutlineWidth = element("outline").checked ? 1 : 0;
      element("threshold-value").textContent = threshold.toFixed(2);
      element("opacity-value").textContent = `${Math.round(100 * score.opacity)} %`;
      element("scale-low").textContent = threshold.toFixed(1);
      viewer.updateGLVolume();
    };
    for (const id of ["threshold", "opacity", "outline"]) element(id).addEventListener("input", show);
    for (const button of document.querySelectorAll("button[data-threshold]")) {
      button.addEventListener("click", () => {
        element("threshold").value = button.dataset.threshold;
        show();
      });
    }
    element("radiological").addEventListener("input", (event) => {
      viewer.setRadiologicalConvention(event.target.checked);
    });
    viewer.onLocationChange = (location) => {
      const mm = Array.from(location.mm.slice(0, 3), (value) => value.toFixed(0)).join(", ");
      const values = location.values.map((value) => value.value);
      element("location").textContent =
        `${mm} mm   scan ${Number(values[0].toPrecision(3))}   score ${values[1].toFixed(2)}`;
    };

    const go = (mm) => {
      viewer.scene.crosshairPos = viewer.mm2frac(mm);
      viewer.createOnLocationChange();
      viewer.updateGLVolume();
    };
    for (const row of document.querySelectorAll("tr[data-mm]")) {
      const choose = () => {
        document.querySelector("tr.chosen")?.classList.remove("chosen");
        row.classList.add("chosen");
        go(JSON.parse(row.dataset.mm));
      };
      row.addEventListener("click", choose);
      row.addEventListener("keydown", (event) => {
        if (event.key === "Enter") choose();
      });
    }
    go(facts.start);
    show();
    window.lesioncore = { viewer };
    document.body.dataset.viewer = "ready";
  };

  try {
    await start();
  } catch (error) {
    document.body.dataset.viewer = "failed";
    element("viewer").innerHTML = "";
    const message = document.createElement("p");
    message.className = "failed";
    message.textContent =
      "The viewer needs a browser with WebGL 2 (any current one; it may be turned off). The figure below shows the same." +
      ` (${error.message})`;
    element("viewer").append(message);
  }
})();

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    const selection = window.getSelection();
    selection.selectAllChildren(text);
    document.execCommand("copy");
    selection.removeAllRanges();
    button.textContent = "Copied";
  });
}
