// What the dashboard's pages need beside htmx: words for failures, folds that stay open, files that
// are sent.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);

  // ---- alerts ----

  let dropped = false;

  const say = (text, link) => {
    const alerts = byId("alerts");
    if (!alerts) return;
    const line = document.createElement("p");
    line.textContent = text;
    if (link) {
      const a = document.createElement("a");
      a.href = link.href;
      a.textContent = link.text;
      line.append(" ", a);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.className = "quiet";
    close.textContent = "Close";
    close.addEventListener("click", () => alerts.replaceChildren());
    alerts.replaceChildren(line, close);
  };

  const hush = () => byId("alerts")?.replaceChildren();

  // The agent says what is wrong as problem details (RFC 9457).
  const detailOf = (request) => {
    try {
      return JSON.parse(request.responseText).detail || "The agent refused this.";
    } catch {
      return "The agent gave an answer that makes no sense (status " + request.status + ").";
    }
  };

  const failed = (request) => {
    if (request.status === 401) {
      say("You are signed out.", { href: "login", text: "Sign in again" });
    } else {
      say(detailOf(request));
    }
  };

  document.addEventListener("htmx:responseError", (event) => failed(event.detail.xhr));
  document.addEventListener("htmx:sendError", () => {
    dropped = true;
    say("The agent cannot be reached. This page goes on by itself when it is back.");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { successful, requestConfig } = event.detail;
    if (!successful) return;
    if (dropped || requestConfig.verb !== "get") hush();
    dropped = false;
  });

  // ---- regions that are drawn anew ----

  // The throttle of a region drops what comes too soon; the last of it is made up for.
  const asked = new WeakSet();
  const late = new WeakSet();
  document.addEventListener("htmx:beforeRequest", (event) => {
    const { elt } = event.detail;
    asked.add(elt);
    // By then, whoever caused it has been told.
    queueMicrotask(() => asked.delete(elt));
  });
  document.addEventListener("htmx:sseMessage", (event) => {
    const region = event.target;
    if (asked.has(region) || late.has(region)) return;
    late.add(region);
    setTimeout(() => {
      late.delete(region);
      if (region.isConnected) htmx.trigger(region, "late");
    }, 1000);
  });

  // What a person has opened stays open, and where a wide table was scrolled to.
  const folds = new WeakMap();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const open = [...event.detail.target.querySelectorAll("details[id]")];
    folds.set(event.detail.target, open.map((fold) => [fold.id, fold.open]));
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    for (const [id, open] of folds.get(event.detail.target) || []) {
      const fold = byId(id);
      if (fold) fold.open = open;
    }
    tellChange(event.detail.target);
  });

  // Whoever hears a page is told what changed, and only when it changed.
  const tellChange = (within) => {
    const said = within.querySelector("[data-live]")?.dataset.live;
    const live = byId("live");
    if (said !== undefined && live && live.textContent !== said) live.textContent = said;
  };

  // A still that cannot be made is told in words. (Such errors do not bubble.)
  document.addEventListener("error", (event) => {
    const still = event.target;
    if (!(still instanceof HTMLImageElement) || !still.closest(".pair")) return;
    const words = document.createElement("p");
    words.className = "empty";
    words.textContent = still.alt + " cannot be shown: the file has gone, or has no picture there.";
    still.replaceWith(words);
  }, true);

  // ---- files that are sent ----

  const send = (file, preset, progress) =>
    new Promise((resolve, reject) => {
      const form = new FormData();
      form.append("client_id", "dashboard");
      form.append("conversion_type", preset);
      form.append("priority", byId("add-priority").value);
      form.append("file", file, file.name);
      const request = new XMLHttpRequest();
      request.open("POST", "api/v1/item");
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) progress.value = event.loaded / event.total;
      });
      request.addEventListener("load", () => {
        if (request.status === 201) resolve(JSON.parse(request.responseText));
        else reject(request);
      });
      request.addEventListener("error", () => reject(null));
      request.send(form);
    });

  const added = (item) => {
    const line = document.createElement("p");
    const link = document.createElement("a");
    link.href = "jobs/" + encodeURIComponent(item.item_id);
    link.textContent = item.file_name;
    line.append("Added ", link, ".");
    byId("added").append(line);
    htmx.trigger(document.body, "changed");
  };

  const sendAll = async (files) => {
    const progress = byId("upload-progress");
    const chooser = byId("upload-file");
    const refused = [];
    hush();
    byId("added").replaceChildren();
    chooser.disabled = true;
    for (const file of files) {
      progress.hidden = false;
      progress.value = 0;
      progress.setAttribute("aria-label", "Sending " + file.name);
      try {
        added(await send(file, byId("add-preset").value, progress));
      } catch (request) {
        if (!request || request.status === 401) {
          if (request) failed(request);
          else say("The connection broke while " + file.name + " was sent. Send it again.");
          break;
        }
        // What is wrong with one file is not wrong with the next.
        refused.push(file.name + ": " + detailOf(request));
        say(refused.join("\n"));
      }
    }
    progress.hidden = true;
    chooser.disabled = false;
    chooser.value = "";
  };

  document.addEventListener("change", (event) => {
    if (event.target.id === "upload-file") sendAll([...event.target.files]);
  });

  const zoneOf = (event) => event.target.closest?.(".drop");
  document.addEventListener("dragover", (event) => {
    const zone = zoneOf(event);
    if (!zone) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => zoneOf(event)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    const zone = zoneOf(event);
    if (!zone) return;
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length > 0) sendAll([...event.dataTransfer.files]);
  });
})();
