import { expect, test } from "vitest";
import { address } from "../src/api/client";
import { formatView, parseView, type View } from "../src/state/url";

const plain: View = { window: "5m", group: "pod", namespace: "", search: "", tab: "flows", selection: undefined };

test("the plain page has a plain address", () => {
  expect(formatView(plain)).toBe("");
  expect(parseView("")).toEqual(plain);
});

test.each<View>([
  { ...plain, window: "1h", namespace: "shop", search: "db :5432 ü&=", tab: "edges" },
  { ...plain, group: "workload" },
  { ...plain, group: "label:app.kubernetes.io/name" },
  { ...plain, selection: { type: "node", id: "shop/web-0" } },
  { ...plain, selection: { type: "edge", source: "shop/web-0", destination: "shop/api-1" } },
  { ...plain, selection: { type: "edge", source: "a b", destination: "fe80::1", port: 8080, proto: "tcp" } },
  { ...plain, selection: { type: "edge", source: "fe80::1", destination: "fe80::2" } },
])("a view comes back from its address: %o", (view) => expect(parseView(formatView(view))).toEqual(view));

test("addresses stay readable", () => {
  const selection = { type: "edge", source: "shop/web-0", destination: "shop/api-1", port: 8080, proto: "tcp" } as const;
  expect(formatView({ ...plain, selection })).toBe("?edge=shop/web-0->shop/api-1:8080/tcp");
});

test("nonsense falls back to the plain page", () => {
  expect(parseView("?window=9y&group=x&tab=x&edge=nothing&edge")).toEqual(plain);
});

test("the API is found below a path prefix", () => {
  expect(address("status", {}, "http://host/obs/?window=1h")).toBe("http://host/obs/api/v1/status");
  expect(address("flows", { pod: "a/b", last: undefined, follow: true }, "http://host/")).toBe(
    "http://host/api/v1/flows?pod=a%2Fb&follow=true",
  );
});
