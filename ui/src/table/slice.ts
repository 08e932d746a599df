export interface Slice {
  first: number;
  last: number;
}

/** Which rows of a long list are in sight, with some above and below. */
export function slice(scrollTop: number, height: number, rowHeight: number, rows: number, extra = 8): Slice {
  const first = Math.max(0, Math.min(rows, Math.floor(scrollTop / rowHeight)) - extra);
  const last = Math.min(rows, Math.ceil((scrollTop + height) / rowHeight) + extra);
  return { first, last };
}

/** Where to scroll so that a row is in sight: nowhere, if it is. */
export function scrollTo(index: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) return top;
  return top + rowHeight > scrollTop + height ? top + rowHeight - height : scrollTop;
}
