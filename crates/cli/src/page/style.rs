/// Stylesheet of the report, with a light and a dark theme.
pub(super) const SHEET: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --faint: #d8dee4;
  --current: #0969da; --earlier: #bc4c00; --errors: #cf222e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --faint: #30363d;
    --current: #58a6ff; --earlier: #f0883e; --errors: #ff7b72; }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; }
svg .axis { font-size: 13px; }
svg .grid { stroke: var(--faint); }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.current { stroke: var(--current); }
polyline.earlier { stroke: var(--earlier); stroke-dasharray: 6 4; }
polyline.errors { stroke: var(--errors); stroke-dasharray: none; }
polyline.errors.earlier { stroke-dasharray: 2 4; }
.swatch { display: inline-block; width: 1.5rem; height: 0.25rem; margin: 0 0.5rem 0.25rem 1rem; }
.swatch.current { background: var(--current); }
.swatch.earlier { background: var(--earlier); }
.swatch.errors { background: var(--errors); }
.stages { display: flex; height: 2rem; }
.stage-0 { background: #0969da; } .stage-1 { background: #bf8700; }
.stage-2 { background: #1a7f37; } .stage-3 { background: #8250df; }
.run, .key { margin: 0.3rem 0; }
table { border-collapse: collapse; }
td, th { padding: 0.2rem 1.5rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--faint); }
td + td { font-variant-numeric: tabular-nums; }
";
