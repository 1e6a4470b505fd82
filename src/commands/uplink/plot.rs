//! Bars for bytes and units, in SVG.

use std::fmt::Write as _;

use super::cost::Row;

const WIDTH: u64 = 760;
const BAR: u64 = 16;
const ROW: u64 = 52;
const HEAD: u64 = 56;
const LABELS: u64 = 190;
/// Room for the figure behind the longest bar.
const FIGURES: u64 = 150;

/// Draws what a day costs; `told` is the traffic.
pub(super) fn draw(told: &str, rows: &[Row]) -> String {
    let height = HEAD + ROW * rows.len() as u64 + 16;
    let mut drawing = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"22\" font-size=\"15\">A day of {}</text>\n\
         <text x=\"16\" y=\"42\" fill=\"#1f6f8b\">megabytes on the line</text>\n\
         <text x=\"{LABELS}\" y=\"42\" fill=\"#c8553d\">units of AWS IoT Core</text>\n",
        escaped(told)
    );
    let most = |figure: fn(&Row) -> u64| rows.iter().map(figure).max().unwrap_or(0).max(1);
    let (bytes, units) = (|row: &Row| row.cost.line, |row: &Row| row.cost.units[1]);
    let (most_bytes, most_units) = (most(bytes), most(units));
    for (place, row) in (0..).zip(rows) {
        let top = HEAD + ROW * place;
        let _ = writeln!(drawing, "<text x=\"16\" y=\"{}\">{}</text>", top + 22, escaped(row.name));
        let megabytes = format!("{:.1} MB", tenths(row.cost.line));
        let units_told = row.cost.units[1].to_string();
        bar(&mut drawing, top, length(row.cost.line, most_bytes), "#1f6f8b", &megabytes);
        bar(&mut drawing, top + BAR + 3, length(units(row), most_units), "#c8553d", &units_told);
    }
    drawing + "</svg>\n"
}

fn bar(drawing: &mut String, top: u64, length: u64, colour: &str, told: &str) {
    let _ = writeln!(
        drawing,
        "<rect x=\"{LABELS}\" y=\"{top}\" width=\"{length}\" height=\"{BAR}\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{}\">{told}</text>",
        LABELS + length + 6,
        top + 13,
    );
}

/// Returns how long a bar is; the least is to be seen.
fn length(figure: u64, most: u64) -> u64 {
    let room = u128::from(WIDTH - LABELS - FIGURES);
    u64::try_from(u128::from(figure) * room / u128::from(most)).unwrap_or(0).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn tenths(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
