//! Logs in the layout of UCI Online Retail, made to measure.

/// The first line of every such file.
pub const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n";

/// One purchase; `day` counts from 0 at the start of 2011, in months of 28 days.
pub fn line(invoice: usize, item: usize, user: usize, day: usize, price: &str) -> String {
    let (month, day, minute) = (1 + day / 28, 1 + day % 28, invoice % 60);
    format!(
        "{invoice},S{item},THING {item},1,{month}/{day}/2011 10:{minute:02},{price},{user},France\r\n"
    )
}

/// A file of 900 purchases over two months, of 37 items by 41 users: enough to split and rank.
pub fn log() -> String {
    let lines: Vec<String> = (0..900_usize)
        .map(|number| {
            // The high bits of a linear congruence: no two users buy alike.
            let draw = number.wrapping_mul(6_364_136_223_846_793_005) >> 33;
            line(
                1_000 + number,
                draw % 37,
                draw / 37 % 41,
                number / 16,
                "2.50",
            )
        })
        .collect();
    format!("{HEADER}{}", lines.concat())
}
