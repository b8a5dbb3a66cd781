//! What each line of a text becomes, from the dtype of the records.

use onecopy_text::{Field as Column, Layout, Scalar, Schema, Unit};

use crate::dtype::DTypeError;
use crate::{DType, Error};

/// The layout of records, or of equal elements in rows, that a dtype asks of a text reader.
///
/// Structures inside structures and sub-arrays take consecutive columns.
pub fn schema_of(dtype: &DType) -> Result<Schema, Error> {
    match dtype {
        DType::Record { itemsize, .. } => {
            let mut columns = Vec::new();
            add_columns(dtype, String::new(), 0, 1, &mut columns)?;
            let layout = Layout::new(columns, *itemsize as usize);
            Ok(Schema::Records(layout.map_err(|error| DTypeError::new("of the records", error.to_string()))?))
        }
        DType::Scalar(text) => {
            let (scalar, big_endian) = scalar_of(text)?;
            Ok(Schema::Rows { scalar, big_endian })
        }
        DType::SubArray { .. } => {
            Err(DTypeError::new("of the rows", "a sub-array stands only inside a structure").into())
        }
    }
}

fn add_columns(dtype: &DType, name: String, offset: u64, count: u64, out: &mut Vec<Column>) -> Result<(), Error> {
    match dtype {
        DType::Scalar(text) => {
            let (scalar, big_endian) = scalar_of(text)?;
            let (offset, count) = (offset as usize, count as usize);
            out.push(Column { name, scalar, offset, big_endian, count });
        }
        DType::SubArray { shape, item } => {
            let inner: u64 = shape.iter().product();
            add_columns(item, name, offset, count * inner, out)?;
        }
        DType::Record { itemsize, fields, .. } => {
            for i in 0..count {
                for field in fields {
                    let full = if name.is_empty() { field.name.clone() } else { format!("{name}.{}", field.name) };
                    add_columns(&field.dtype, full, offset + i * itemsize + field.offset, 1, out)?;
                }
            }
        }
    }
    Ok(())
}

fn scalar_of(text: &str) -> Result<(Scalar, bool), Error> {
    let refuse = |reason: &str| Error::from(DTypeError::new(format!("{text:?}"), reason));
    let big_endian = text.starts_with('>');
    let (kind, rest) =
        text.get(1..).and_then(|text| text.split_at_checked(1)).ok_or_else(|| refuse("it has no kind"))?;
    let (digits, unit) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    let size: usize = digits.parse().map_err(|_| refuse("it has no size"))?;
    let scalar = match (kind, size) {
        ("b", 1) => Scalar::Bool,
        ("i", 1) => Scalar::I8,
        ("i", 2) => Scalar::I16,
        ("i", 4) => Scalar::I32,
        ("i", 8) => Scalar::I64,
        ("u", 1) => Scalar::U8,
        ("u", 2) => Scalar::U16,
        ("u", 4) => Scalar::U32,
        ("u", 8) => Scalar::U64,
        ("f", 2) => Scalar::F16,
        ("f", 4) => Scalar::F32,
        ("f", 8) => Scalar::F64,
        ("c", 8) => Scalar::C64,
        ("c", 16) => Scalar::C128,
        ("S", width) => Scalar::Bytes(width),
        ("U", length) => Scalar::Unicode(length),
        ("M", 8) => date_of(unit).ok_or_else(|| refuse("a date needs a unit, such as datetime64[s]"))?,
        ("m", 8) => Scalar::TimeDelta,
        _ => return Err(refuse("no text is read into it")),
    };
    Ok((scalar, big_endian))
}

/// The type of `[25s]`: every 25 seconds.
fn date_of(unit: &str) -> Option<Scalar> {
    let inner = unit.strip_prefix('[')?.strip_suffix(']')?;
    let digits = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
    let step = if digits == 0 { 1 } else { inner[..digits].parse().ok()? };
    Some(Scalar::DateTime(Unit::from_code(&inner[digits..])?, step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;

    fn field(name: &str, offset: u64, dtype: DType) -> Field {
        Field { name: name.into(), title: String::new(), offset, dtype }
    }

    #[test]
    fn structures_are_flattened_in_the_order_of_columns() {
        let pair = DType::SubArray { shape: vec![2], item: Box::new(DType::Scalar(">i2".into())) };
        let inner = DType::Record {
            itemsize: 6,
            aligned: false,
            fields: vec![field("a", 0, DType::Scalar("|S1".into())), field("b", 2, pair)],
        };
        let twice = DType::SubArray { shape: vec![2], item: Box::new(inner) };
        let dtype = DType::Record { itemsize: 20, aligned: false, fields: vec![field("x", 4, twice)] };
        let Schema::Records(layout) = schema_of(&dtype).unwrap() else { panic!("it is a record") };
        let seen: Vec<_> = layout.fields().iter().map(|f| (f.name.as_str(), f.offset, f.count, f.big_endian)).collect();
        assert_eq!(seen, [("x.a", 4, 1, false), ("x.b", 6, 2, true), ("x.a", 10, 1, false), ("x.b", 12, 2, true)]);
    }

    #[test]
    fn scalars_have_their_counterparts() {
        for (text, name) in [
            ("<M8[25s]", "datetime64[25s]"),
            ("<M8[D]", "datetime64[D]"),
            ("<U3", "U3"),
            ("|b1", "bool"),
            ("<c8", "complex64"),
        ] {
            assert_eq!(scalar_of(text).unwrap().0.to_string(), name);
        }
        for text in ["<f16", "<M8", "|V3", "<i3", "<"] {
            assert!(scalar_of(text).is_err(), "{text}");
        }
    }
}
