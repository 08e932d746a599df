import { expect, test } from "vitest";
import text from "../../tests/cli/once_cases.json?raw";
import type { FlowRecord } from "../src/api/types";
import { OnePoint } from "../src/state/once";

const CASES = JSON.parse(text) as Record<string, { shown: boolean; record: FlowRecord }[]>;

test.each(Object.entries(CASES))("as the command line has it: %s", (_, cases) => {
  const view = new OnePoint();
  expect(cases.map(({ record }) => view.shows(record))).toEqual(cases.map(({ shown }) => shown));
});
