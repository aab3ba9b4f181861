// Draws the figures when they come near the view, and repaints them when the theme changes.
(function () {
  "use strict";
  var THEMES = {
    light: { text: "#30363d", grid: "#e3e6ea", line: "#9aa3ad", box: "#ffffff" },
    dark: { text: "#c9d1d9", grid: "#2b323a", line: "#6b7580", box: "#1c2127" }
  };
  var media = window.matchMedia("(prefers-color-scheme: dark)");
  var printing = false;
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot"));
  var drawn = [];

  function theme() {
    return THEMES[media.matches && !printing ? "dark" : "light"];
  }

  function isAxis(key) {
    return /^[xy]axis\d*$/.test(key);
  }

  function paint(layout) {
    var colours = theme();
    layout.font = Object.assign({}, layout.font, { color: colours.text });
    layout.hoverlabel = { bgcolor: colours.box, bordercolor: colours.line, font: { color: colours.text } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colours.line, activecolor: colours.text };
    layout.paper_bgcolor = "rgba(0,0,0,0)";
    layout.plot_bgcolor = "rgba(0,0,0,0)";
    Object.keys(layout).filter(isAxis).forEach(function (key) {
      layout[key] = Object.assign({}, layout[key], {
        gridcolor: colours.grid, linecolor: colours.line, zerolinecolor: colours.line, tickcolor: colours.line
      });
    });
    return layout;
  }

  // Days that are not evenly spaced are sent as the steps between them.
  function unpack(trace) {
    if (trace.meta && trace.meta.steps) {
      var day = Date.parse(trace.x0 + "T00:00:00Z");
      trace.x = trace.meta.steps.map(function (step) {
        day += step * 86400000;
        return new Date(day).toISOString().slice(0, 10);
      });
      delete trace.x0;
    }
    return trace;
  }

  function wrapped(label) {
    return typeof label === "string" && label.length > 26 ? label.replace(/(.{14,24}?) /, "$1<br>") : label;
  }

  // On a phone: room for the plot rather than for ticks, margins and colour scales (the captions state the scales).
  function narrow(figure, box) {
    if (box.clientWidth >= 560) { return figure; }
    var layout = figure.layout;
    layout.margin = Object.assign({}, layout.margin, { l: Math.min(layout.margin.l, 52), r: 8 });
    Object.keys(layout).filter(isAxis).forEach(function (key) {
      if (layout[key].type === "date") { Object.assign(layout[key], { nticks: 4, tickangle: 0 }); }
    });
    figure.data.forEach(function (trace) {
      if (trace.type === "heatmap") { trace.showscale = false; } else if (trace.y) { trace.y = trace.y.map(wrapped); }
    });
    if (layout.yaxis.categoryarray) {
      layout.yaxis.categoryarray = layout.yaxis.categoryarray.map(wrapped);
      layout.yaxis.tickfont = { size: 8 };
    }
    return figure;
  }

  function draw(box) {
    if (drawn.indexOf(box) >= 0) { return; }
    drawn.push(box);
    var figure = JSON.parse(document.getElementById(box.id.replace("plot-", "data-")).textContent);
    figure.data = figure.data.map(unpack);
    narrow(figure, box);
    Plotly.newPlot(box, figure.data, paint(figure.layout), {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
      displayModeBar: box.clientWidth < 560 ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]
    }).then(function () { box.setAttribute("data-drawn", "true"); });
  }

  function repaint() {
    drawn.forEach(function (box) {
      if (box.layout) { Plotly.relayout(box, paint(box.layout)); }
    });
  }

  function drawRest() {
    var next = plots.find(function (box) { return drawn.indexOf(box) < 0; });
    if (!next) { return; }
    draw(next);
    window.setTimeout(drawRest, 30);
  }

  if ("IntersectionObserver" in window) {
    var observer = new IntersectionObserver(function (entries) {
      entries.filter(function (entry) { return entry.isIntersecting; }).forEach(function (entry) {
        observer.unobserve(entry.target);
        draw(entry.target);
      });
    }, { rootMargin: "400px" });
    plots.forEach(function (box) { observer.observe(box); });
  }
  window.setTimeout(drawRest, 600);
  media.addEventListener("change", repaint);
  window.addEventListener("beforeprint", function () {
    printing = true;
    plots.forEach(draw);
    repaint();
  });
  window.addEventListener("afterprint", function () {
    printing = false;
    repaint();
  });
})();
