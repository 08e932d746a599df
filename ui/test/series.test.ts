import { expect, test } from "vitest";
import { area, bars, line, peak } from "../src/series/chart";

test("a line has gaps where nothing is known, and a dot for a lonely value", () => {
  expect(line([0, 10, null, 5, null, 10, 10])).toBe("M0.5 30.00L1.5 0.00M3 15.00h1M5.5 0.00L6.5 0.00");
  expect(area([0, 10, null, 5])).toBe("M0.5 30L0.5 30.00L1.5 0.00V30Z");
});

test("nothing at all is at the bottom", () => {
  expect(peak([null, 0])).toBe(0);
  expect(line([0, 0])).toBe("M0.5 30.00L1.5 30.00");
  expect(line([null])).toBe("");
});

test("one drop among thousands is seen", () => {
  expect(bars([1, 0, null, 5000])).toBe("M0 30V28.00h1V30ZM3 30V0.00h1V30Z");
});
