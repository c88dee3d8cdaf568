use super::Summary;
/// todo
pub fn page(_title: &str, _filter: Option<&str>, _summary: &Summary) -> String {
    String::new()
}
