// Without this module the browser would show nothing of ours: the table of contents of the browser side.

import { app } from "./shared/host.js";
import { loadText } from "./shared/text.js";
import { addTrainingPanel } from "./training/node.js";
import { training } from "./training/store.js";

app.registerExtension({
  name: "AnonymizeFaces",

  async init() {
    await loadText();
    training.start();
  },

  nodeCreated(node) {
    if (node.comfyClass === "TrainAnonymizationPrefix") addTrainingPanel(node);
  },
});
