const anyV4 = "0".repeat(8);
const anyV6 = "0".repeat(32);
const mappedV4 = `${"0".repeat(16)}FFFF0000`;

/**
 * Whether binding `mine` fails where `theirs` is bound to the same port; both in the kernel's form. A socket on `::`
 * may or may not take IPv4 too, and /proc does not say: it counts as if it did.
 */
export function conflicts(mine: string, theirs: string): boolean {
  const bare = theirs.startsWith(mappedV4) ? theirs.slice(mappedV4.length) : theirs;
  if (mine === bare) return true;
  if (mine.length === 32) return (mine === anyV6 || bare === anyV6) && bare.length === 32;
  return bare === anyV6 || (bare.length === 8 && (mine === anyV4 || bare === anyV4));
}
