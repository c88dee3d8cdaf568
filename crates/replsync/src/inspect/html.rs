use super::Summary;
/// todo
pub fn page(_summary: &Summary) -> String {
    String::new()
}
