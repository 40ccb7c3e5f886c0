// Figures as words: the same as bitdustfs/units.py and vault/account.py say them.

export function size(bytes) {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(value) < 1024) return unit === "B" ? `${value.toFixed(0)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

export function within(seconds) {
  if (seconds < 90) return `in ${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `in ${(seconds / 60).toFixed(0)} min`;
  return seconds < 172800 ? `in ${(seconds / 3600).toFixed(0)} h` : `in ${(seconds / 86400).toFixed(0)} days`;
}

export function ago(seconds) {
  if (seconds < 120) return `${seconds.toFixed(0)} s ago`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min ago`;
  return `${(seconds / 3600).toFixed(0)} h ago`;
}

export function many(count, one, more) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
}

export function day(seconds) {
  return new Date(seconds * 1000).toLocaleDateString("en-CA");
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

// Paths and keys
export const short = (key) => key.slice(0, 16);
