"""Books for the sample library: classics in the public domain, by author, and three of them with their text."""

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "sample_files"


class SampleFile(NamedTuple):
    path: Path
    title: str
    author: str


#: One file of each format.
SAMPLE_FILES = (
    SampleFile(FOLDER / "alice.epub", "Alice's Adventures in Wonderland", "Lewis Carroll"),
    SampleFile(FOLDER / "captains-daughter.fb2.zip", "Капитанская дочка", "Александр Пушкин"),
    SampleFile(FOLDER / "as-you-like-it.txt", "As You Like It", "William Shakespeare"),
)

#: One author per line, `author: title / title`.
BY_AUTHOR = """
Jane Austen: Emma / Mansfield Park / Northanger Abbey / Persuasion / Pride and Prejudice / Sense and Sensibility
Honoré de Balzac: Cousin Bette / Eugénie Grandet / Father Goriot / Lost Illusions
J. M. Barrie: Peter Pan
L. Frank Baum: The Wonderful Wizard of Oz
Anne Brontë: Agnes Grey / The Tenant of Wildfell Hall
Charlotte Brontë: Jane Eyre / Shirley / Villette
Emily Brontë: Wuthering Heights
Frances Hodgson Burnett: A Little Princess / The Secret Garden
Lewis Carroll: Alice's Adventures in Wonderland / Through the Looking-Glass
Willa Cather: Death Comes for the Archbishop / My Ántonia / O Pioneers!
Miguel de Cervantes: Don Quixote
Anton Chekhov: The Cherry Orchard / The Steppe / Three Sisters / Uncle Vanya / Ward No. 6
G. K. Chesterton: The Innocence of Father Brown / The Man Who Was Thursday
Kate Chopin: The Awakening
Wilkie Collins: The Moonstone / The Woman in White
Joseph Conrad: Heart of Darkness / Lord Jim / Nostromo / The Secret Agent
James Fenimore Cooper: The Last of the Mohicans
Stephen Crane: The Red Badge of Courage
Daniel Defoe: Moll Flanders / Robinson Crusoe
Charles Dickens: A Christmas Carol / A Tale of Two Cities / Bleak House / David Copperfield / Great Expectations
Charles Dickens: Hard Times / Little Dorrit / Oliver Twist / Our Mutual Friend / The Pickwick Papers
Fyodor Dostoevsky: Crime and Punishment / Demons / Notes from Underground / The Brothers Karamazov / The Gambler
Fyodor Dostoevsky: The Idiot / White Nights
Arthur Conan Doyle: A Study in Scarlet / The Adventures of Sherlock Holmes / The Hound of the Baskervilles
Arthur Conan Doyle: The Lost World / The Sign of the Four
Theodore Dreiser: Sister Carrie
Alexandre Dumas: The Count of Monte Cristo / The Man in the Iron Mask / The Three Musketeers / Twenty Years After
George Eliot: Adam Bede / Daniel Deronda / Middlemarch / Silas Marner / The Mill on the Floss
F. Scott Fitzgerald: The Beautiful and Damned / The Great Gatsby / This Side of Paradise
Gustave Flaubert: Madame Bovary / Salammbô / Sentimental Education
Ford Madox Ford: The Good Soldier
E. M. Forster: A Passage to India / A Room with a View / Howards End / The Longest Journey
Elizabeth Gaskell: Cranford / North and South / Wives and Daughters
Johann Wolfgang von Goethe: Elective Affinities / Faust / The Sorrows of Young Werther
Nikolai Gogol: Dead Souls / Evenings on a Farm Near Dikanka / Taras Bulba / The Government Inspector / The Overcoat
Oliver Goldsmith: The Vicar of Wakefield
Ivan Goncharov: A Common Story / Oblomov
Kenneth Grahame: The Wind in the Willows
Thomas Hardy: Far from the Madding Crowd / Jude the Obscure / Tess of the d'Urbervilles / The Mayor of Casterbridge
Nathaniel Hawthorne: The House of the Seven Gables / The Scarlet Letter
O. Henry: Cabbages and Kings / The Four Million
Homer: The Iliad / The Odyssey
Victor Hugo: Les Misérables / Ninety-Three / The Hunchback of Notre-Dame / Toilers of the Sea
Henry James: The Ambassadors / The Portrait of a Lady / The Turn of the Screw / Washington Square
Jerome K. Jerome: Three Men in a Boat / Three Men on the Bummel
James Joyce: A Portrait of the Artist as a Young Man / Dubliners / Ulysses
Franz Kafka: Amerika / Metamorphosis / The Castle / The Trial
Rudyard Kipling: Captains Courageous / Just So Stories / Kim / The Jungle Book
D. H. Lawrence: Sons and Lovers / The Rainbow / Women in Love
Gaston Leroux: The Mystery of the Yellow Room / The Phantom of the Opera
Mikhail Lermontov: A Hero of Our Time
Jack London: Martin Eden / The Call of the Wild / The Sea-Wolf / White Fang
George MacDonald: Phantastes / The Princess and the Goblin
Thomas Mann: Buddenbrooks / Death in Venice / The Magic Mountain
Guy de Maupassant: Bel-Ami / Pierre and Jean
Herman Melville: Bartleby, the Scrivener / Billy Budd / Moby-Dick / Typee
L. M. Montgomery: Anne of Avonlea / Anne of Green Gables / Emily of New Moon
E. Nesbit: Five Children and It / The Railway Children
Edgar Allan Poe: The Narrative of Arthur Gordon Pym / Tales of Mystery and Imagination
Marcel Proust: Swann's Way / Within a Budding Grove
Rainer Maria Rilke: The Notebooks of Malte Laurids Brigge
Edmond Rostand: Cyrano de Bergerac
Rafael Sabatini: Captain Blood / Scaramouche
Walter Scott: Ivanhoe / Rob Roy / Waverley
Anna Sewell: Black Beauty
William Shakespeare: Hamlet / King Lear / Macbeth / Othello / Romeo and Juliet / The Tempest / Twelfth Night
Mary Shelley: Frankenstein / The Last Man
Upton Sinclair: The Jungle
Stendhal: The Charterhouse of Parma / The Red and the Black
Laurence Sterne: A Sentimental Journey / Tristram Shandy
Robert Louis Stevenson: Dr Jekyll and Mr Hyde / Kidnapped / The Black Arrow / Treasure Island
Bram Stoker: Dracula / The Jewel of Seven Stars
Jonathan Swift: Gulliver's Travels
William Makepeace Thackeray: Barry Lyndon / Vanity Fair
Leo Tolstoy: Anna Karenina / Hadji Murat / Resurrection / The Death of Ivan Ilyich / The Kreutzer Sonata / War and Peace
Anthony Trollope: Barchester Towers / The Warden / The Way We Live Now
Ivan Turgenev: A Nest of the Gentry / Fathers and Sons / First Love / Rudin / Smoke
Mark Twain: A Connecticut Yankee in King Arthur's Court / Adventures of Huckleberry Finn / Life on the Mississippi
Mark Twain: The Adventures of Tom Sawyer / The Prince and the Pauper
Jules Verne: Around the World in Eighty Days / Journey to the Centre of the Earth / Michael Strogoff
Jules Verne: The Mysterious Island / Twenty Thousand Leagues Under the Seas
Voltaire: Candide / Zadig
H. G. Wells: The Invisible Man / The Island of Doctor Moreau / The Time Machine / The War of the Worlds
Edith Wharton: Ethan Frome / Summer / The Age of Innocence / The House of Mirth
Oscar Wilde: The Importance of Being Earnest / The Picture of Dorian Gray
Virginia Woolf: Jacob's Room / Mrs Dalloway / Night and Day / To the Lighthouse
Émile Zola: Germinal / Nana / The Ladies' Paradise / Thérèse Raquin
Александр Грибоедов: Горе от ума
Александр Пушкин: Дубровский / Евгений Онегин / Капитанская дочка / Медный всадник / Пиковая дама
Николай Лесков: Леди Макбет Мценского уезда / Левша / Очарованный странник
Александр Куприн: Гранатовый браслет / Олеся
"""

#: (title, author)
CLASSICS = [
    (title, author)
    for author, titles in (line.split(": ", 1) for line in BY_AUTHOR.strip().splitlines())
    for title in titles.split(" / ")
]
