// Scripts that live/build.py writes: tables.js and wasm.js.
declare const TABLES: any;
declare const WASM: string;
