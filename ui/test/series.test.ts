import { expect, test } from "vitest";
import { area, bars, last, line, mean, peak, settled, sum } from "../src/series/chart";

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

test("the newest seconds are not taken for silence", () => {
  const at = [0, 3, 6, 9].map((s) => new Date(1.7e12 + s * 1000).toISOString());
  expect(settled([0, 0, 7, 0], at, new Date(1.7e12 + 10_000).toISOString())).toEqual([0, 0, 7, null]);
});

test("one number for all of the time", () => {
  const values = [2, null, 4, null];
  expect([sum(values), mean(values), last(values)]).toEqual([6, 3, 4]);
});
