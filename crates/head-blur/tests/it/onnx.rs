//! Writes ONNX models that answer the same to every picture.

const FLOAT: u64 = 1;
const HALF: u64 = 10;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push((value & 127 | 128) as u8);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(content.len() as u64),
        content.to_vec(),
    ]
    .concat()
}

fn value_info(name: &str, kind: u64, shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape
        .iter()
        .flat_map(|d| field(1, &integer(1, *d)))
        .collect();
    let tensor = [integer(1, kind), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(kind: &str, inputs: &[&str], output: &str, attribute: Option<(&str, u64)>) -> Vec<u8> {
    let attribute = attribute.map_or(Vec::new(), |(name, value)| {
        let whole_number = integer(20, 2);
        let content = [field(1, name.as_bytes()), integer(3, value), whole_number].concat();
        field(5, &content)
    });
    let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes()));
    [
        inputs.collect(),
        field(2, output.as_bytes()),
        field(4, kind.as_bytes()),
        attribute,
    ]
    .concat()
}

/// A model for `input` (width, height) that answers `values` of `shape`;
/// `names` as exporters write them.
pub(crate) fn answering(
    input: (u64, u64),
    shape: [u64; 3],
    values: &[f32],
    names: Option<&str>,
    half: bool,
) -> Vec<u8> {
    let kind = if half { HALF } else { FLOAT };
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let answer = [
        shape.iter().flat_map(|d| integer(1, *d)).collect(),
        integer(2, FLOAT),
        field(8, b"answer"),
        field(9, &raw),
    ]
    .concat();
    let zero = [
        integer(2, FLOAT),
        field(8, b"zero"),
        field(9, &0f32.to_le_bytes()),
    ]
    .concat();
    // An input that nothing depends on would be dropped: answer + 0 * mean.
    let nodes = [
        node("Cast", &["picture"], "floats", Some(("to", FLOAT))),
        node("ReduceMean", &["floats"], "mean", Some(("keepdims", 0))),
        node("Mul", &["mean", "zero"], "nothing", None),
        node("Add", &["answer", "nothing"], "output", None),
    ];
    let graph = [
        nodes.iter().flat_map(|node| field(1, node)).collect(),
        field(2, b"graph"),
        field(5, &answer),
        field(5, &zero),
        field(11, &value_info("picture", kind, &[1, 3, input.1, input.0])),
        field(12, &value_info("output", FLOAT, &shape)),
    ]
    .concat();
    let metadata = names.map_or(Vec::new(), |names| metadata("names", names));
    [
        integer(1, 8),
        field(7, &graph),
        field(8, &[field(1, b""), integer(2, 13)].concat()),
        metadata,
    ]
    .concat()
}

/// What exporters write beside the network; may be appended to a model.
pub(crate) fn metadata(key: &str, value: &str) -> Vec<u8> {
    let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())];
    field(14, &entry.concat())
}
