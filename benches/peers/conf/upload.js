// js_content runs after the whole body was read, where a plain `return` answers before.
export default { taken: (r) => r.return(200, '{}') };
