//! Metrics and their text. The library writes the text; nothing is registered with it, since the
//! counters are the node's own.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// The value of a metric.
pub trait Value {
    /// The value in its base unit: seconds, bytes, or a count.
    fn value(self) -> f64;
}

impl Value for u64 {
    fn value(self) -> f64 {
        self as f64
    }
}

impl Value for usize {
    fn value(self) -> f64 {
        self as f64
    }
}

impl Value for f64 {
    fn value(self) -> f64 {
        self
    }
}

impl Value for bool {
    fn value(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Value for Duration {
    fn value(self) -> f64 {
        self.as_secs_f64()
    }
}

/// How times are distributed.
pub struct Distribution {
    /// All times together.
    pub sum: Duration,
    /// Number of times.
    pub count: u64,
    /// How many were no longer than a bound, by bounds that grow.
    pub up_to: Vec<(Duration, u64)>,
}

impl From<Distribution> for Histogram {
    fn from(distribution: Distribution) -> Self {
        let bucket = |(bound, count): (Duration, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_sample_sum(distribution.sum.as_secs_f64());
        histogram.set_sample_count(distribution.count);
        histogram.set_bucket(distribution.up_to.into_iter().map(bucket).collect());
        histogram
    }
}

/// Metrics under construction.
#[derive(Debug, Default)]
pub struct Families(Vec<MetricFamily>);

impl Families {
    /// Adds a figure that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Value) {
        self.add(name, help, MetricType::COUNTER, vec![metric(MetricType::COUNTER, value, &[])]);
    }

    /// Adds a figure that rises and falls.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Value) {
        self.add(name, help, MetricType::GAUGE, vec![metric(MetricType::GAUGE, value, &[])]);
    }

    /// Adds a figure that only grows, for each value of a label.
    pub fn counters<L: AsRef<str>, V: Value>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.add(name, help, MetricType::COUNTER, labelled(MetricType::COUNTER, label, values));
    }

    /// Adds a figure that rises and falls, for each value of a label.
    pub fn gauges<L: AsRef<str>, V: Value>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.add(name, help, MetricType::GAUGE, labelled(MetricType::GAUGE, label, values));
    }

    /// Adds how times are distributed, for each value of a label.
    pub fn histograms<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, Distribution)>,
    ) {
        let one = |(of, value): (L, Distribution)| {
            let mut metric = Metric::from_label(pairs(&[(label, of.as_ref())]));
            metric.set_histogram(value.into());
            metric
        };
        let metrics = values.into_iter().map(one).collect();
        self.add(name, help, MetricType::HISTOGRAM, metrics);
    }

    /// Adds what is said in labels; the figure is 1.
    pub fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.add(name, help, MetricType::GAUGE, vec![metric(MetricType::GAUGE, true, labels)]);
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        debug_assert_eq!(kind == MetricType::COUNTER, name.ends_with("_total"), "{name}");
        // A family without metrics has no text.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let encoded = TextEncoder::new().encode_utf8(&self.0, &mut text);
        encoded.expect("each family has a name and a metric");
        text
    }
}

/// A metric for each value of a label.
fn labelled<L: AsRef<str>, V: Value>(
    kind: MetricType,
    label: &str,
    values: impl IntoIterator<Item = (L, V)>,
) -> Vec<Metric> {
    let one = |(of, value): (L, V)| metric(kind, value, &[(label, of.as_ref())]);
    values.into_iter().map(one).collect()
}

fn metric(kind: MetricType, value: impl Value, labels: &[(&str, &str)]) -> Metric {
    let mut metric = Metric::from_label(pairs(labels));
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value.value());
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value.value());
        metric.set_gauge(gauge);
    }
    metric
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_the_format_has_them() {
        let mut families = Families::default();
        families.counter("calls_total", "Calls.", 3_u64);
        families.gauge("idle_seconds", "Back\\slash\nand line.", Duration::from_millis(1500));
        families.gauges("keys", "Keys.", "db", [("0", 7_usize), ("1", 0)]);
        families.counters("seconds_total", "Time.", "command", [("config|set", 0.25)]);
        families.info("build", "Build.", &[("version", "1.0"), ("node", "a")]);
        let expected = "\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total 3
# HELP idle_seconds Back\\\\slash\\nand line.
# TYPE idle_seconds gauge
idle_seconds 1.5
# HELP keys Keys.
# TYPE keys gauge
keys{db=\"0\"} 7
keys{db=\"1\"} 0
# HELP seconds_total Time.
# TYPE seconds_total counter
seconds_total{command=\"config|set\"} 0.25
# HELP build Build.
# TYPE build gauge
build{version=\"1.0\",node=\"a\"} 1
";
        assert_eq!(families.text(), expected);
    }

    #[test]
    fn values_of_labels_are_escaped() {
        let mut families = Families::default();
        families.gauges("odd", "Odd.", "name", [("a\"b\\c\nd é", true)]);
        let text = families.text();
        assert_eq!(text.lines().last(), Some(r#"odd{name="a\"b\\c\nd é"} 1"#));
    }

    #[test]
    fn large_numbers_have_all_their_digits_and_a_family_of_nothing_has_no_lines() {
        let mut families = Families::default();
        families.gauge("bytes", "Bytes.", 1_u64 << 52);
        families.counters("none_total", "None.", "label", Vec::<(&str, u64)>::new());
        assert_eq!(families.text().lines().last(), Some("bytes 4503599627370496"));
    }
}
