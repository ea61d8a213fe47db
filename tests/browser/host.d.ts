// What the host puts on the window, beside its published types.
import type { LGraphNode } from "../../web/shared/host.js";

declare global {
  interface Window {
    LiteGraph: { createNode(type: string): LGraphNode | null; vueNodesMode?: boolean };
  }
}
