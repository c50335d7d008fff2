//! Pure: metric families built at scrape from stripes.

use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use super::Histogram;

/// One metric family being filled with samples.
#[derive(Debug)]
pub struct Family {
    family: MetricFamily,
    labels: &'static [&'static str],
}

impl Family {
    /// A family of counters named `keyway_{name}`, its name ending in `_total`.
    pub fn counter(name: &str, help: &str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, MetricType::COUNTER)
    }

    /// A family of gauges named `keyway_{name}`.
    pub fn gauge(name: &str, help: &str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, MetricType::GAUGE)
    }

    /// A family of duration histograms named `keyway_{name}`, in seconds.
    pub fn histogram(name: &str, help: &str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, MetricType::HISTOGRAM)
    }

    /// Adds a counter's or gauge's sample; `values` in the order of the labels.
    pub fn sample(&mut self, values: &[&str], value: f64) {
        let mut metric = self.metric(values);
        if self.family.get_field_type() == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.family.mut_metric().push(metric);
    }

    /// Adds a counter's sample.
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus' samples are doubles"
    )]
    pub fn count(&mut self, values: &[&str], count: u64) {
        self.sample(values, count as f64);
    }

    /// Adds a histogram's sample, the sum of `histograms`: those of all threads.
    pub fn observations<'a>(
        &mut self,
        values: &[&str],
        histograms: impl Iterator<Item = &'a Histogram>,
    ) {
        let mut counts = [0; Histogram::BOUNDS.len() + 1];
        let mut sum_ns = 0;
        for histogram in histograms {
            for (total, count) in counts.iter_mut().zip(histogram.counts()) {
                *total += count;
            }
            sum_ns += histogram.sum_ns();
        }
        let mut metric = self.metric(values);
        metric.set_histogram(cumulate(&counts, sum_ns));
        self.family.mut_metric().push(metric);
    }

    /// The family, filled.
    pub fn into_inner(self) -> MetricFamily {
        self.family
    }

    fn new(name: &str, help: &str, labels: &'static [&'static str], kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(format!("keyway_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self { family, labels }
    }

    fn metric(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.labels.len(), "a value for each label");
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::default();
        metric.set_label(self.labels.iter().zip(values).map(pair).collect());
        metric
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
fn cumulate(counts: &[u64], sum_ns: u64) -> proto::Histogram {
    let mut total = 0;
    let bucket = |(count, bound): (&u64, &f64)| {
        total += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(total);
        bucket.set_upper_bound(*bound);
        bucket
    };
    let buckets = counts.iter().zip(&Histogram::BOUNDS).map(bucket).collect();
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum_ns as f64 / 1e9);
    histogram
}
