//! Which column goes where: the schema and the options, compiled for the lines of one file.

use crate::convert::{Cell, Rules};
use crate::dialect::trim;
use crate::error::{FieldId, ReadError};
use crate::kernels::Run;
use crate::layout::{Field, Layout, Padding, Schema};
use crate::options::{Column, Missing, Options, Raw};
use crate::sink::RawTarget;

/// What the first lines say about the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstLines {
    /// Columns of the first record.
    pub(crate) columns: usize,
    /// Names in the header line.
    pub(crate) names: Option<Vec<String>>,
}

/// One element of the record and the column that it comes from.
#[derive(Debug)]
pub(crate) struct Target {
    /// Negative from the end of the line.
    pub(crate) column: i64,
    pub(crate) cell: Cell,
    pub(crate) offset: usize,
    pub(crate) id: FieldId,
    /// Whether the sink fills it.
    pub(crate) raw: bool,
    /// Texts of missing values and the bytes that stand for them.
    missing: Vec<(Vec<u8>, Box<[u8]>)>,
    /// Texts of missing values for all fields, and the values, which are not of this one's type.
    unfit: Vec<(Vec<u8>, String)>,
}

impl Target {
    /// The column in a line of `columns` columns; `None` if the line is too short.
    pub(crate) fn column_of(&self, columns: usize) -> Option<usize> {
        let column = if self.column < 0 { self.column + columns as i64 } else { self.column };
        usize::try_from(column).ok().filter(|&column| column < columns)
    }

    /// Columns that a line needs for this target.
    pub(crate) fn columns_needed(&self) -> usize {
        (if self.column < 0 { self.column.unsigned_abs() } else { self.column as u64 + 1 }) as usize
    }

    pub(crate) fn place<'r>(&self, record: &'r mut [u8]) -> &'r mut [u8] {
        &mut record[self.offset..self.offset + self.cell.scalar.size()]
    }

    pub(crate) fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// What was to be stored for `text`, if only that is not of the type.
    pub(crate) fn unfit_for(&self, text: &[u8], rules: Rules) -> Option<&str> {
        let text = trim(text, rules.encoding);
        self.unfit.iter().find(|(missing, _)| missing == text).map(|(_, fill)| fill.as_str())
    }

    /// The bytes to store if `text` stands for a missing value.
    pub(crate) fn fill_for(&self, text: &[u8], rules: Rules) -> Option<&[u8]> {
        let text = trim(text, rules.encoding);
        self.missing.iter().find(|(missing, _)| missing == text).map(|(_, fill)| &fill[..])
    }
}

/// How lines become records.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    /// All targets that are not raw, as kernels take them; for lines of `columns` columns.
    pub(crate) runs: Vec<Run>,
    /// The targets that the sink fills.
    pub(crate) raw: Vec<RawTarget>,
    /// Whether the sink wants to know the line of each record.
    pub(crate) lines: bool,
    /// Columns of the lines that the kernels can take.
    pub(crate) columns: usize,
    /// Whether lines of another number of columns are errors.
    pub(crate) exact: bool,
    /// Whether their number is that of the dtype, and not of the first line.
    pub(crate) by_dtype: bool,
    pub(crate) record_size: usize,
    pub(crate) padding: Padding,
    pub(crate) rules: Rules,
}

impl Plan {
    pub(crate) fn new(file: &str, options: &Options, schema: &Schema, first: &FirstLines) -> Result<Self, ReadError> {
        let chosen = options.use_columns.as_deref().map(|columns| choose(file, columns, first)).transpose()?;
        let layout = match schema {
            Schema::Records(layout) => layout.clone(),
            Schema::Rows { scalar, big_endian } => {
                let count = chosen.as_ref().map_or(first.columns, Vec::len);
                let field = Field { big_endian: *big_endian, count, ..Field::new("", *scalar, 0) };
                let record_size = count * scalar.size();
                Layout::new(vec![field], record_size).expect("the record is as long as its field")
            }
        };
        let exact = chosen.is_none();
        let chosen = chosen.unwrap_or_else(|| (0..layout.columns() as i64).collect());
        if chosen.len() != layout.columns() {
            let (given, wanted) = (chosen.len(), layout.columns());
            return refuse(format!(
                "usecols names {given} columns and the dtype has {wanted}; give as many as the dtype has"
            ));
        }
        if let Some(field) = layout.fields().iter().find(|field| field.count > 0 && field.scalar.size() == 0) {
            return refuse(format!("{} in the dtype holds no character; give a width", field.scalar));
        }
        let rules = Rules::from(options);
        let named = matches!(schema, Schema::Records(_));
        let mut targets = targets(&layout, &chosen, named, first);
        set_missing(&mut targets, &options.missing, rules)?;
        // Without rows nobody looks at them, as in numpy.
        let is_empty = first.columns == 0 || options.max_rows == Some(0);
        let raw = if is_empty { Vec::new() } else { raw(options, &targets, first)? };
        for (i, target) in targets.iter_mut().enumerate() {
            target.raw = raw.iter().any(|raw| raw.element == i);
        }
        let columns = if exact { layout.columns() } else { first.columns };
        let runs = runs(&targets, columns);
        // A column that lines of this length do not have: no line is for the kernels.
        let columns = if runs.is_some() { columns } else { usize::MAX };
        let runs = runs.unwrap_or_default();
        let (record_size, padding) = (layout.record_size(), layout.padding());
        let lines = options.lines || !raw.is_empty();
        Ok(Self { targets, runs, raw, lines, columns, exact, by_dtype: named, record_size, padding, rules })
    }

    /// Bytes of the shortest line that can be a record.
    pub(crate) fn shortest_line(&self, spaced: bool) -> usize {
        match self.columns {
            // Fields between delimiters can be empty, but a line of one empty field is blank.
            columns if self.exact && columns > 1 => columns * if spaced { 2 } else { 1 },
            _ => 2,
        }
    }

    /// Those of `names`, one for each column of the file, that belong to the stored columns.
    pub(crate) fn select(&self, names: &[String]) -> Vec<String> {
        let name = |target: &Target| target.column_of(names.len()).map_or_else(String::new, |i| names[i].clone());
        self.targets.iter().map(name).collect()
    }
}

fn refuse<T>(message: String) -> Result<T, ReadError> {
    Err(ReadError::Options { message })
}

/// The columns that are meant, negative from the end of the line.
pub(crate) fn choose(file: &str, columns: &[Column], first: &FirstLines) -> Result<Vec<i64>, ReadError> {
    let names = first.names.as_deref().unwrap_or_default();
    let index = |column: &Column| match column {
        Column::Index(index) => Ok(*index),
        Column::Name(name) => match names.iter().position(|known| known == name) {
            Some(index) => Ok(index as i64),
            None if first.names.is_none() => {
                refuse(format!("column '{name}' is a name and there is no header; set header"))
            }
            None => {
                let names = names.join(", ");
                Err(ReadError::NoSuchName { file: file.into(), name: name.clone(), names })
            }
        },
    };
    columns.iter().map(index).collect()
}

fn targets(layout: &Layout, chosen: &[i64], named: bool, first: &FirstLines) -> Vec<Target> {
    let elements = layout.fields().iter().flat_map(|field| (0..field.count).map(move |i| (field, i)));
    let target = |((field, i), &column): ((&Field, usize), &i64)| {
        let cell = Cell { scalar: field.scalar, big_endian: field.big_endian };
        let offset = field.offset + i * field.scalar.size();
        let id = FieldId::Name(field.name.clone());
        let mut target = Target { column, cell, offset, id, raw: false, missing: Vec::new(), unfit: Vec::new() };
        if !named {
            let index = target.column_of(first.columns);
            let name = index.and_then(|index| first.names.as_ref()?.get(index));
            let number = index.map_or(target.columns_needed(), |index| index + 1) as u64;
            target.id = name.map_or(FieldId::Column(number), |name| FieldId::Name(name.clone()));
        }
        target
    };
    elements.zip(chosen).map(target).collect()
}

fn set_missing(targets: &mut [Target], missing: &[Missing], rules: Rules) -> Result<(), ReadError> {
    for Missing { text, fill, field } in missing {
        let mut known = field.is_none();
        for target in targets.iter_mut() {
            let is_named = matches!((&target.id, field), (FieldId::Name(name), Some(field)) if name == field);
            if field.is_some() && !is_named {
                continue;
            }
            known = true;
            let mut bytes = vec![0; target.cell.scalar.size()].into_boxed_slice();
            match target.cell.convert(fill.as_bytes(), rules, &mut bytes) {
                Ok(()) => target.missing.push((text.clone().into_bytes(), bytes)),
                Err(_) if field.is_none() => target.unfit.push((text.clone().into_bytes(), fill.clone())),
                Err(_) => {
                    let (id, scalar) = (&target.id, target.cell.scalar);
                    return refuse(format!(
                        "'{fill}', to be stored for '{text}' in {id}, is not {scalar}; give another value"
                    ));
                }
            }
        }
        if let (false, Some(field)) = (known, field) {
            return refuse(format!("a missing value is given for field '{field}', which there is not; check the name"));
        }
    }
    Ok(())
}

/// The targets that the entries of `options.raw` mean. Where two entries mean the same one, the later counts.
fn raw(options: &Options, targets: &[Target], first: &FirstLines) -> Result<Vec<RawTarget>, ReadError> {
    let mut entries: Vec<Option<usize>> = vec![None; targets.len()];
    match &options.raw {
        Raw::Nothing => {}
        Raw::All => entries.fill(Some(0)),
        Raw::Columns(columns) => {
            for (entry, column) in columns.iter().enumerate() {
                let element = match &options.use_columns {
                    Some(chosen) => chosen.iter().position(|chosen| chosen == column),
                    None => Some(raw_element(column, targets.len(), first)?),
                };
                if let Some(element) = element {
                    entries[element] = Some(entry);
                }
            }
        }
    }
    let chosen = entries.iter().zip(targets).enumerate().filter_map(|(element, (entry, target))| {
        let (offset, scalar, field) = (target.offset, target.cell.scalar, target.id.clone());
        entry.map(|entry| RawTarget { entry, element, offset, scalar, field })
    });
    Ok(chosen.collect())
}

/// Which of `count` elements, one for each column, `column` means.
fn raw_element(column: &Column, count: usize, first: &FirstLines) -> Result<usize, ReadError> {
    let element = match column {
        Column::Index(index) if *index < 0 => usize::try_from(index.saturating_add_unsigned(count as u64)).ok(),
        Column::Index(index) => usize::try_from(*index).ok(),
        Column::Name(name) => first.names.as_ref().and_then(|names| names.iter().position(|known| known == name)),
    };
    element.filter(|&element| element < count).ok_or_else(|| {
        let shown = match column {
            Column::Index(index) => index.to_string(),
            Column::Name(name) => format!("'{name}'"),
        };
        let message = format!(
            "converter specified for column {shown}, which is invalid for the number of fields {count}; correct the \
             column, or choose columns with usecols"
        );
        ReadError::Options { message }
    })
}

/// Groups neighbours; `None` if lines of `columns` columns lack one.
fn runs(targets: &[Target], columns: usize) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let column = target.column_of(columns)?;
        if target.raw {
            continue;
        }
        let size = target.cell.scalar.size();
        let continues = |run: &&mut Run| {
            let next = (run.target + run.count, run.column + run.count, run.offset + run.count * size);
            run.cell == target.cell && next == (i, column, target.offset)
        };
        match runs.last_mut().filter(continues) {
            Some(run) => run.count += 1,
            None => runs.push(Run { column, target: i, count: 1, cell: target.cell, offset: target.offset }),
        }
    }
    Some(runs)
}
