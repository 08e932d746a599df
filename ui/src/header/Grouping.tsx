import { computed, useSignal } from "@preact/signals";
import { groupBy } from "../state/actions";
import { GROUPS, LABEL, labelKey, type Group } from "../state/groups";
import { group, rows } from "../state/store";

/** Keys of labels on the records at hand. */
const keys = computed(() => {
  const found = new Set<string>();
  const texts = new Set(rows.value.flatMap(({ record: r }) => [r.src_labels ?? "", r.dst_labels ?? ""]));
  for (const text of texts) for (const label of text.split(",")) if (label) found.add(label.split("=")[0]!);
  return [...found].sort();
});

/** What the map puts ends together by; for a label, its key besides. */
export function Grouping() {
  const asking = useSignal(false);
  const key = labelKey(group.value);
  const labelled = asking.value || key !== undefined;
  const choose = (value: string) => {
    asking.value = value === LABEL;
    if (value !== LABEL) groupBy(value as Group);
  };
  const chooseKey = (text: string) => {
    asking.value = false;
    groupBy(text.trim() ? `${LABEL}${text.trim()}` : "pod");
  };
  return (
    <div class="grouping">
      <label>
        <span class="by">by</span>
        <select
          aria-label="Group the map by"
          value={labelled ? LABEL : group.value}
          onChange={(event) => choose(event.currentTarget.value)}
        >
          {GROUPS.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
          <option value={LABEL}>label…</option>
        </select>
      </label>
      {labelled && (
        <input
          type="search"
          aria-label="Key of the label"
          placeholder="app"
          list="label-keys"
          spellcheck={false}
          autocapitalize="off"
          value={key ?? ""}
          ref={(input) => void (asking.value && input?.focus())}
          onChange={(event) => chooseKey(event.currentTarget.value)}
        />
      )}
      {labelled && <Keys />}
    </div>
  );
}

function Keys() {
  return (
    <datalist id="label-keys">
      {keys.value.map((name) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}
