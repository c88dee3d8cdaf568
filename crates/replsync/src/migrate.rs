//! A live migration, told as a story.
