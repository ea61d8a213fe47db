// Lists our example workflows in the order of their numbers: the host lists them as its disk happens to.

import { api } from "./host.js";

/** Whose list has it is ours, whatever folder the extension lies in. */
const OURS = "1 Train on the demo model";

/** Puts them in order whenever the host asks for the list; call once. */
export function orderTemplates() {
  const list = api.getWorkflowTemplates.bind(api);
  api.getWorkflowTemplates = async () => {
    const found = await list();
    for (const [pack, names] of Object.entries(found)) {
      if (names.includes(OURS)) found[pack] = [...names].sort((one, other) => Number.parseInt(one) - Number.parseInt(other));
    }
    return found;
  };
}
