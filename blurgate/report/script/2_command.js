// The command line for the chosen rule, quoted for the reader's shell.

const PLAIN = /^[A-Za-z0-9_@%+=:,.\/-]+$/;

// POSIX sh: single quotes keep everything but the quote itself. What cannot be pasted safely
// (control characters, bytes that are no UTF-8) is written as escapes of $'...', which bash, zsh
// and ksh know, and POSIX since 2024.
function quoteSh(text) {
  if (PLAIN.test(text)) return text;
  const odd = new RegExp(`${UNSEEN.source}|${LONE.source}`, "g");
  if (!odd.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text
    .replace(/[\\']/g, (c) => `\\${c}`)
    .replace(new RegExp(odd.source, "g"), (c) => {
      const code = c.charCodeAt(0);
      const bytes = isByte(code) ? [code - 0xdc00] : new TextEncoder().encode(c);
      // Octal has at most three digits, so that a digit behind it is not taken in.
      return Array.from(bytes, (b) => `\\${b.toString(8).padStart(3, "0")}`).join("");
    });
  return `$'${escaped}'`;
}

// PowerShell: within single quotes only the quote itself, in any of its shapes, is doubled.
function quotePs(text) {
  if (/^[A-Za-z0-9_+=:.\/\\-]+$/.test(text)) return text;
  return `'${text.replace(/['\u2018\u2019\u201a\u201b]/g, "$&$&")}'`;
}

function commandLine(shell) {
  const quote = shell === "ps" ? quotePs : quoteSh;
  const command = data.command;
  const words = ["blurgate", "filter", "--threshold", String(rule.threshold)];
  if (rule.review > 0) words.push("--review", String(rule.review));
  if (rule.min_face > 0) words.push("--min-face", String(rule.min_face));
  words.push(...command.options);
  if (command.out) words.push("--out", `${command.out}-${rule.threshold}`);
  if (!command.sources.length) return `${words.map(quote).join(" ")} SOURCE`;
  if (command.listed) {
    const line = [...words, "-"].map(quote).join(" ");
    // PowerShell 5 reads the list in a code page and hands it on as ASCII, if it is not told.
    return shell === "ps"
      ? `$OutputEncoding = [Text.UTF8Encoding]::new(); Get-Content -Encoding UTF8 sources.txt | ${line}`
      : `${line} < sources.txt`;
  }
  // Behind -- a source that begins with a dash is no option.
  const ends = command.sources.some((name) => name.startsWith("-")) ? ["--"] : [];
  return [...words, ...ends, ...command.sources].map(quote).join(" ");
}

async function copyCommand() {
  const text = byId("command").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(byId("command"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (!document.execCommand("copy")) {
      say("The command is selected; copy it with the keyboard.");
      return;
    }
  }
  say("Copied.");
  byId("copy").textContent = "Copied";
  setTimeout(() => (byId("copy").textContent = "Copy the command"), 2000);
}

function saveList() {
  const encoded = Array.from(`${data.command.sources.join("\n")}\n`, (c) => {
    const code = c.length === 1 ? c.charCodeAt(0) : 0;
    if (isByte(code)) return `%${hex(code - 0xdc00, 2)}`;
    return encodeURIComponent(c.replace(LONE, "\ufffd"));
  });
  const link = document.createElement("a");
  link.href = `data:text/plain;charset=utf-8,${encoded.join("")}`;
  link.download = "sources.txt";
  link.click();
}
