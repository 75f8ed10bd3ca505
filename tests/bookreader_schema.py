"""The tables of BookReader AI that books and chapters live in, as its last version has them (PostgreSQL)."""

SCHEMA = """
CREATE TABLE users (id uuid PRIMARY KEY, email varchar(320) NOT NULL UNIQUE);
CREATE TABLE books (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title varchar(500) NOT NULL,
    author varchar(255),
    genre varchar(50) NOT NULL CHECK (genre IN ('fantasy', 'detective', 'science_fiction', 'historical', 'romance',
        'thriller', 'horror', 'classic', 'other')),
    language varchar(10) NOT NULL,
    file_path varchar(1000) NOT NULL,
    file_format varchar(10) NOT NULL CHECK (file_format IN ('epub', 'fb2')),
    file_size integer NOT NULL,
    cover_image varchar(1000),
    description text,
    book_metadata jsonb,
    total_pages integer NOT NULL,
    estimated_reading_time integer NOT NULL,
    is_parsed boolean NOT NULL,
    is_processing boolean NOT NULL,
    parsing_progress integer NOT NULL CHECK (parsing_progress BETWEEN 0 AND 100),
    parsing_error text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_accessed timestamptz
);
CREATE TABLE chapters (
    id uuid PRIMARY KEY,
    book_id uuid NOT NULL REFERENCES books ON DELETE CASCADE,
    chapter_number integer NOT NULL,
    title varchar(500),
    content text NOT NULL,
    html_content text,
    word_count integer NOT NULL,
    estimated_reading_time integer NOT NULL,
    is_description_parsed boolean NOT NULL,
    descriptions_found integer NOT NULL,
    parsing_progress integer NOT NULL,
    is_service_page boolean,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    parsed_at timestamptz,
    CONSTRAINT uq_chapters_number UNIQUE (book_id, chapter_number)
);
CREATE TABLE reading_sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    book_id uuid NOT NULL REFERENCES books ON DELETE CASCADE,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    duration_minutes integer NOT NULL DEFAULT 0,
    start_position integer NOT NULL DEFAULT 0,
    end_position integer NOT NULL DEFAULT 0,
    pages_read integer NOT NULL DEFAULT 0,
    device_type varchar(50),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);
"""
