// Paths written out, so that `bun build --compile` finds the addon of its platform and puts it into the executable. It
// tolerates the others, which are not built, only inside `try`.
function load() {
  const target = `${process.platform}-${process.arch}`;
  try {
    if (target === "linux-x64") return require("./kvengine.linux-x64-gnu.node");
    if (target === "linux-arm64") return require("./kvengine.linux-arm64-gnu.node");
  } catch (cause) {
    throw new Error(`the native module for ${target} cannot be loaded: ${cause.message}`, { cause });
  }
  throw new Error(`there is no native module for ${target}`);
}

module.exports = load();
