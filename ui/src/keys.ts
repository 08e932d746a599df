import { clearOne } from "./state/actions";
import { tab } from "./state/store";
import { current, pickCurrent, step } from "./table/cursor";

/** Keys for the whole page; nothing with a modifier, and letters not while somebody types. */
export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const search = document.getElementById("search") as HTMLInputElement | null;
    const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
    if (event.key === "Escape") {
      if (typing) search?.blur();
      current.value = undefined;
      clearOne();
    } else if (typing || event.target instanceof HTMLSelectElement) {
      return;
    } else if (event.key === "/") {
      search?.focus();
      search?.select();
    } else if ((event.key === "j" || event.key === "k") && tab.value === "flows") {
      step(event.key === "j" ? 1 : -1);
    } else if (event.key === "Enter" && event.target === document.body) {
      pickCurrent();
    } else {
      return;
    }
    event.preventDefault();
  });
}
