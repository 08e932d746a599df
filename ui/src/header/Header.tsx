import { namespace, namespaces, window_ } from "../state/store";
import { WINDOWS } from "../state/url";
import { ConnectionBadge } from "./ConnectionBadge";
import { Agents, Lost } from "./Counters";
import { Grouping } from "./Grouping";
import { Search } from "./Search";

export function Header() {
  return (
    <header class="top">
      <h1>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M4 6 C12 6 12 18 20 18 M4 18 C8 18 10 15.5 12 12" />
          <circle cx="4" cy="6" r="2.6" />
          <circle cx="4" cy="18" r="2.6" />
          <circle cx="20" cy="18" r="2.6" />
        </svg>
        flowobs
      </h1>
      <ConnectionBadge />
      <div class="grow" />
      <Search />
      <Namespace />
      <Grouping />
      <WindowPicker />
      <Agents />
      <Lost />
    </header>
  );
}

function Namespace() {
  const chosen = namespace.value;
  // A link may name a namespace that has no flows now: it stays selectable, so that the page does not lie.
  const names = namespaces.value.includes(chosen) || !chosen ? namespaces.value : [chosen, ...namespaces.value];
  return (
    <label class="namespace">
      <span class="hidden">Namespace</span>
      <select value={chosen} onChange={(event) => (namespace.value = event.currentTarget.value)}>
        <option value="">All namespaces</option>
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function WindowPicker() {
  return (
    <fieldset class="segments">
      <legend class="hidden">Time window of the map</legend>
      {WINDOWS.map((name) => (
        <label key={name} title={`The map shows the last ${name}`}>
          <input type="radio" name="window" value={name} checked={window_.value === name} onChange={() => (window_.value = name)} />
          <span>{name}</span>
        </label>
      ))}
    </fieldset>
  );
}
