// Registers all that the browser shows of ours: the table of contents of the browser side.

import { addPeopleLists } from "./people/node.js";
import { showBrowser } from "./prefixes/browser.js";
import { addPrefixInfo, followPrefixes } from "./prefixes/node.js";
import { addReport } from "./results/report.js";
import { addSlider } from "./results/slider.js";
import { foldAdvanced } from "./shared/advanced.js";
import { app } from "./shared/host.js";
import { settings } from "./shared/settings.js";
import { orderTemplates } from "./shared/templates.js";
import { loadText, t } from "./shared/text.js";
import { addFinetuningPanel, addTrainingPanel } from "./training/node.js";
import { training } from "./training/store.js";
import { PROTECTOR } from "./workflow/clip_source.js";
import { protectWorkflow, unprotectWorkflow } from "./workflow/protect.js";

const PROTECT = "AnonymizeFaces.Protect";
const UNPROTECT = "AnonymizeFaces.Unprotect";
/** Nodes of ours that have advanced settings. */
const OURS = new Set([
  "TrainAnonymizationPrefix", "EvaluateAnonymization", "CompareStrengths", "ProtectPhotos", "MeasurePhotoProtection",
  "FineTuneOnCaptions", "LearnExperts", "RoutePrompt",
]);

// The host reads the commands' names while it registers them.
await loadText();

app.registerExtension({
  name: "AnonymizeFaces",

  commands: [
    { id: PROTECT, icon: "pi pi-shield", label: () => t("protect.command"), function: protectWorkflow },
    { id: UNPROTECT, icon: "pi pi-eye", label: () => t("protect.reverse"), function: unprotectWorkflow },
  ],
  settings: settings(),
  menuCommands: [{ path: ["Edit"], commands: [PROTECT, UNPROTECT] }],

  init() {
    training.start();
    followPrefixes();
    orderTemplates();
  },

  setup() {
    /** @type {() => void} */
    let leave = () => {};
    app.extensionManager.registerSidebarTab({
      id: "anonymize-faces",
      icon: "pi pi-shield",
      title: t("library.tab"),
      tooltip: t("library.title"),
      type: "custom",
      render: (place) => {
        leave();
        leave = showBrowser(place);
      },
      destroy: () => leave(),
    });
  },

  getCanvasMenuItems: () => [
    null,
    { content: t("protect.command"), callback: protectWorkflow },
    { content: t("protect.reverse"), callback: unprotectWorkflow },
  ],

  nodeCreated(node) {
    if (OURS.has(node.comfyClass ?? "")) foldAdvanced(node);
    if (node.comfyClass === "TrainAnonymizationPrefix") addTrainingPanel(node);
    if (node.comfyClass === "FineTuneOnCaptions") addFinetuningPanel(node, true);
    if (["MeasurePhotoProtection", "LearnExperts"].includes(node.comfyClass ?? "")) addFinetuningPanel(node, false);
    if (node.comfyClass === "IdentityList") addPeopleLists(node);
    if (node.comfyClass === PROTECTOR) addPrefixInfo(node);
    if (["CompareStrengths", "FaceMask"].includes(node.comfyClass ?? "")) addSlider(node);
    addReport(node);
  },
});
